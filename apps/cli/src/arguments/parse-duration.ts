import { InvalidArgumentError } from 'commander';
import { parseDuration, SPEC_LIMITS } from '#libs/contracts';

/** A grace: `500ms`, `2s`, `1m` or `0`, in milliseconds, up to the bound of a spec. */
export function parseGrace(text: string): number {
  const ms = parseWithUnit(text);
  if (ms > SPEC_LIMITS.maxGraceMs)
    throw new InvalidArgumentError(`A grace is at most ${SPEC_LIMITS.maxGraceMs / 60_000}m.`);
  return ms;
}

/** How long a question waits: `30s`, `15m`, `1h`, in milliseconds. */
export function parseTimeout(text: string): number {
  return parseWithUnit(text);
}

function parseWithUnit(text: string): number {
  // A bare number is milliseconds in settings. On a command line `--grace 2` could easily mean seconds.
  const ms = /[a-z]$|^0$/.test(text.trim()) ? parseDuration(text) : undefined;
  if (ms === undefined)
    throw new InvalidArgumentError(`"${text}" is not a duration such as 500ms, 2s or 1m.`);
  return ms;
}
