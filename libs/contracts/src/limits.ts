/** One limit on running agents (requirement R35). It holds for each value by itself: `pool` for each pool, `label.tenant` for each tenant. */
export interface LimitRule {
  /** `fleet`, `pool`, or `label.` and the key of a label; attempts without that label are not limited by it. */
  readonly by: string;
  /** Agents at a time, from the claim to the end that was stored. */
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

/** The limits with what they hold now. */
export interface LimitsRecord extends LimitSet {
  /** Attempts that count under a limit. */
  readonly held: number;
  /** Attempts that wait for one. */
  readonly waiting: number;
}

/** More would slow every claim down. */
export const MAX_LIMITS = 20;

/** The names that an attempt counts under: `fleet`, `pool=gpu`, `label.tenant=acme`; each once. The Lua include `limits` does the same. */
export function limitNames(
  rules: readonly LimitRule[],
  pool: string,
  labels: Readonly<Record<string, string>>,
): string[] {
  // A drill must run whatever is limited.
  if (pool.startsWith('@')) return [];
  const names = rules.map(({ by }) => {
    if (by === 'fleet') return by;
    if (by === 'pool') return `pool=${pool}`;
    const value = labels[by.slice('label.'.length)];
    return value === undefined ? undefined : `${by}=${value}`;
  });
  return [...new Set(names)].filter((name) => name !== undefined);
}
