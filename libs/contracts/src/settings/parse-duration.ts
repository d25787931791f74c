const UNIT_MS: Readonly<Record<string, number>> = {
  '': 1,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const DURATION = /^(\d{1,15}(?:\.\d{1,3})?)(ms|s|m|h|d)?$/;

/** Milliseconds of `7d`, `12h`, `5m`, `1.5s`, `500ms` or a plain number of them; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const match = DURATION.exec(text.trim());
  if (match === null) return undefined;
  const ms = Number(match[1]) * UNIT_MS[match[2] ?? '']!;
  const whole = Math.round(ms);
  return Math.abs(ms - whole) < 1e-6 && Number.isSafeInteger(whole) ? whole : undefined;
}

const LARGEST_FIRST = Object.entries(UNIT_MS)
  .filter(([unit]) => unit !== '' && unit !== 'ms')
  .toReversed();

/** The shortest exact way to write a duration: 604800000 is `7d`, 1500 is `1500ms`. */
export function formatDuration(ms: number): string {
  for (const [unit, unitMs] of LARGEST_FIRST) {
    if (ms !== 0 && ms % unitMs === 0) return `${ms / unitMs}${unit}`;
  }
  return `${ms}ms`;
}
