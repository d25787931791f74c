/** A bound on requests: that many a second on average, and up to `burst` at once. */
export interface RequestRate {
  readonly perSecond: number;
  /** Absent: twice `perSecond`. */
  readonly burst?: number;
}

/** The bound of tokens that have none of their own; `off`: there is no bound. */
export type DefaultRate = RequestRate | 'off';

/** The largest number of requests in a rate. */
export const MAX_REQUEST_RATE = 100_000;

/** The end of a sentence "must be …". */
export const RATE_RULE = `a number of requests per second, perhaps with a burst after a colon, such as 50 or 50:200; each from 1 to ${MAX_REQUEST_RATE}`;

/** The requests that a rate allows at once. */
export function burstOf({ perSecond, burst = 2 * perSecond }: RequestRate): number {
  return burst;
}

/** A rate as people write it, `50` or `50:200`; undefined when the text breaks the rule. */
export function parseRate(text: string): RequestRate | undefined {
  const [, rate, burst] = /^(\d{1,6})(?::(\d{1,6}))?$/.exec(text.trim()) ?? [];
  const numbers = [rate, burst].filter((part) => part !== undefined).map(Number);
  if (numbers.length === 0 || numbers.some((number) => number < 1 || number > MAX_REQUEST_RATE))
    return undefined;
  const [perSecond = 0, most] = numbers;
  return { perSecond, ...(most === undefined ? {} : { burst: most }) };
}

/** A rate as `parseRate` reads it. */
export function formatRate({ perSecond, burst }: RequestRate): string {
  return burst === undefined ? String(perSecond) : `${perSecond}:${burst}`;
}
