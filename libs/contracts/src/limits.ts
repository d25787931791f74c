/**
 * One limit on running agents (docs/limits.md). It applies to each value by itself: `pool` to each pool, `label.tenant` to each
 * tenant.
 */
export interface LimitRule {
  /** `fleet`, `pool`, or `label.` and the key of a label. It does not limit attempts without that label. */
  readonly by: string;
  /** Agents at a time, from the claim to the stored end. */
  readonly running?: number;
  /** Starts in any 60 seconds. */
  readonly perMinute?: number;
}

/** All limits of the fleet, as one record. */
export interface LimitSet {
  /** Rises with every change. */
  readonly version: number;
  readonly items: readonly LimitRule[];
}

/** The limits with their present use. */
export interface LimitsRecord extends LimitSet {
  /** Attempts that count under a limit. */
  readonly held: number;
  /** Attempts that wait for a limit. */
  readonly waiting: number;
}

/** At most this many: each slows every claim. */
export const MAX_LIMITS = 20;

/**
 * The names under which an attempt counts: `fleet`, `pool=gpu`, `label.tenant=acme`; each once. The Lua include `limits` has
 * the same rule.
 */
export function limitNames(
  rules: readonly LimitRule[],
  pool: string,
  labels: Readonly<Record<string, string>>,
): string[] {
  // A drill must run, whatever the limits.
  if (pool.startsWith('@')) return [];
  const names = rules.map(({ by }) => {
    if (by === 'fleet') return by;
    if (by === 'pool') return `pool=${pool}`;
    const value = labels[by.slice('label.'.length)];
    return value === undefined ? undefined : `${by}=${value}`;
  });
  return [...new Set(names)].filter((name) => name !== undefined);
}
