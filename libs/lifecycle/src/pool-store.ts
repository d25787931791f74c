import type { PoolCounts, Requirement } from '#libs/contracts';
import { executionOf } from './execution-of';
import { accepted } from './refusals';
import { StoreReads } from './store-reads';

/** At most this many pools of each shard are listed. */
const MOST_POOLS = 1_000;

/** An attempt's removal from its pool, and the work that follows. */
export interface Removed {
  readonly removed: boolean;
  /** The execution has live agents, which an order must stop. */
  readonly stopNeeded: boolean;
  /** The execution has steps left to advance. */
  readonly more: boolean;
}

/** The attempts of pools: how many wait and run, and the removal of a waiting one (docs/cli.md#belay-queues). */
export class PoolStore extends StoreReads {
  /** Every pool that has attempts, by name. Pools for the drills of a single worker are left out. */
  async counts(): Promise<PoolCounts[]> {
    const { scripts } = this.scripts.valkey;
    const shards = await Promise.all(
      this.keys.tags().map(async (tag) => {
        const found = await scripts.json('countPools', this.keys.shard(tag, 'pools'), [tag, MOST_POOLS]);
        // cjson encodes an empty Lua table as an object, not as a list.
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

  /** Attempts of a shard that wait in a pool, in the order in which they may start. */
  async waiting(tag: string, pool: string, from: number, most: number): Promise<string[]> {
    return this.redis.zrange(this.keys.waiting(tag, pool), String(from), String(from + most - 1));
  }

  /**
   * Removes a waiting attempt whose labels meet the conditions. Repeatable: an attempt that no longer waits is left
   * alone.
   */
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
