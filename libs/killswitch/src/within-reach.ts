import type { Reach } from '#libs/contracts';

/**
 * Whether an agent had begun when the order's reach was counted (ADR 0015). An agent without a number is older than these
 * counts. `unknown`: the reach has no count of the agent's shard, so the count cannot decide, and only an open order reaches
 * the agent. Each caller knows in its own way whether the order is open.
 */
export function withinReach(reach: Reach, tag: string, born = 0): 'yes' | 'no' | 'unknown' {
  const count = reach[tag];
  if (count === undefined) return 'unknown';
  return born <= count ? 'yes' : 'no';
}
