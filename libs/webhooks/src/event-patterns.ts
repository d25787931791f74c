import { CONTROL_EVENT_TYPES } from '#libs/contracts';

const prefixes = new Set(CONTROL_EVENT_TYPES.map((type) => `${type.slice(0, type.indexOf('.'))}.*`));

/** Everything that `events` of an endpoint may name: each type, `latch.*` and the like, and `*`. */
export const EVENT_PATTERNS: readonly string[] = ['*', ...prefixes, ...CONTROL_EVENT_TYPES];

/** Whether one of the patterns names the type. */
export function isWanted(patterns: readonly string[], type: string): boolean {
  return patterns.some(
    (pattern) =>
      pattern === '*' ||
      pattern === type ||
      (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1))),
  );
}
