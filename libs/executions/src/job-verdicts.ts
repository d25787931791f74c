import { isBelayError, type BelayError } from '#libs/contracts';
import type { ProducedJob } from '#libs/dispatch';
import { isTransient } from '#libs/valkey';

/** A job that waits for a latch looks again after this long, then twice as long, up to the limit. Milliseconds. */
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;
/** The longest reason of a failed job: it has room for every problem of an ordinary spec. Characters. */
const MOST_REASON = 20_000;

const PASSING_CODES: readonly string[] = [
  'SERVER_UNREACHABLE',
  'SERVER_REFUSED',
  'SERVER_FULL',
  'OUTCOME_UNKNOWN',
  'TIMEOUT',
  'DRAINING',
];

/** Whether the same job can succeed in a moment. */
export function passes(error: unknown): boolean {
  return isBelayError(error) ? PASSING_CODES.includes(error.code) : isTransient(error);
}

/** The delay of a job that was taken that often. */
export function waitMs({ taken }: ProducedJob): number {
  const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(taken, 10));
  // Spread out: a thousand jobs that met one latch must not come back in one moment.
  return Math.round(longest * (0.5 + Math.random() / 2));
}

/** A refusal as the reason of a failed job. */
export function reasonOf({ code, message, problems }: BelayError): string {
  const lines = problems.map(({ path, message: text }) => `  ${path === '' ? 'spec' : path}: ${text}`);
  const whole = [`${code}: ${message}`, ...lines].join('\n');
  return whole.length <= MOST_REASON ? whole : `${whole.slice(0, MOST_REASON)}…`;
}
