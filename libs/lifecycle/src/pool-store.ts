import type { PoolCounts, Requirement } from '#libs/contracts';
import { executionOf } from './execution-of';
import { accepted } from './refusals';
import { StoreReads } from './store-reads';

/** Most pools listed of each shard. */
const MOST_POOLS = 1_000;

/** An attempt's removal from its pool, and what has to follow. */
export interface Removed {
  readonly removed: boolean;
  /** Live agents of its execution must be stopped by an order. */
  readonly stopNeeded: boolean;
  /** Its execution has steps left to advance. */
  readonly more: boolean;
}

/** The attempts of pools: how many wait and run, and the removal of one that waits (requirement R34). */
export class PoolStore extends StoreReads {
  /** Every pool that has something, by name. Pools of one worker alone are for its drills and are left out. */
  async counts(): Promise<PoolCounts[]> {
    const { scripts } = this.scripts.valkey;
    const shards = await Promise.all(
      this.keys.tags().map(async (tag) => {
        const found = await scripts.json('countPools', this.keys.shard(tag, 'pools'), [tag, MOST_POOLS]);
        // An empty Lua table is an object, not a list.
        return Array.isArray(found) ? (found as PoolCounts[]) : [];
      }),
    );
    const all = new Map<string, PoolCounts>();
    for (const one of shards.flat()) all.set(one.pool, sum(all.get(one.pool), one));
    return [...all.keys()]
      .filter((pool) => !pool.startsWith('@'))
      .toSorted()
      .map((pool) => all.get(pool) as PoolCounts);
  }

  /** Attempts of a shard that wait in a pool, those first that may start first. */
  async waiting(tag: string, pool: string, from: number, most: number): Promise<string[]> {
    return this.redis.zrange(this.keys.shard(tag, `wait:${pool}`), String(from), String(from + most - 1));
  }

  /** Takes out an attempt that waits, if its labels meet the conditions. Repeatable: one that waits no more is left alone. */
  async remove(
    agentId: string,
    pool: string,
    request: { requires?: readonly Requirement[]; actor: string; note: string; isDry: boolean },
  ): Promise<Removed> {
    const { requires, actor, note, isDry } = request;
    const conditions = requires === undefined ? '' : JSON.stringify(requires);
    const args = [agentId, pool, conditions, actor, note, isDry ? 1 : 0];
    const reply = await this.scripts.json('removeWaiting', executionOf(agentId), args);
    return accepted(reply, 'agent', agentId);
  }
}

function sum(a: PoolCounts | undefined, b: PoolCounts): PoolCounts {
  if (a === undefined) return b;
  const { pool, waiting, delayed, active } = a;
  const oldestMs = Math.max(a.oldestMs ?? -1, b.oldestMs ?? -1);
  return {
    pool,
    waiting: waiting + b.waiting,
    delayed: delayed + b.delayed,
    active: active + b.active,
    ...(oldestMs < 0 ? {} : { oldestMs }),
  };
}
