import type { WorkerRecord } from '#libs/contracts';

/** The pools of running workers by name, with the number of workers of each. */
export function poolsOf(workers: readonly WorkerRecord[]): Map<string, number> {
  const pools = new Map<string, number>();
  for (const { state, pools: served } of workers)
    for (const pool of state === 'running' ? served : []) pools.set(pool, (pools.get(pool) ?? 0) + 1);
  return new Map([...pools].sort(([a], [b]) => (a < b ? -1 : 1)));
}
