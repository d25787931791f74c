import { InvalidArgumentError } from 'commander';
import { SPEC_LIMITS } from '#libs/contracts';

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 };

/** `500ms`, `2s`, `1.5m`, `1h`, `0`: milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|min|h)?$/.exec(text.trim());
  const unit = match?.[2] ?? (Number(match?.[1]) === 0 ? 'ms' : '');
  const factor = UNITS[unit];
  if (match === null || factor === undefined)
    throw new InvalidArgumentError(`"${text}" is not a duration such as 500ms, 2s or 1m.`);
  return Math.round(Number(match[1]) * factor);
}

/** A grace: a duration up to what a spec may say. */
export function parseGrace(text: string): number {
  const ms = parseDuration(text);
  if (ms > SPEC_LIMITS.maxGraceMs)
    throw new InvalidArgumentError(`A grace is at most ${SPEC_LIMITS.maxGraceMs / 60_000}m.`);
  return ms;
}
