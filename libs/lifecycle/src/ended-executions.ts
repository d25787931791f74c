import { setTimeout as delay } from 'node:timers/promises';
import type { Retention } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { MIN_AGE_MS, Removals } from './removals';
import type { StateRoom } from './state-room';

/** One pass removes this many executions at most. */
const MOST_A_PASS = 200;
const BETWEEN_LOOKS = 10;
/**
 * One pass looks at this many executions at most, since any number of them may have an unproved attempt and is passed
 * over.
 */
const MOST_LOOKED_AT = 2_000;
const PAGE = 100;
/**
 * The share of the bound on memory from which on the oldest executions go, so that a submit is refused only when
 * nothing is left to remove.
 */
const TIGHT = 0.9;
/** The server frees memory in the background, so the pass looks again. Milliseconds. */
const FREEING_LOOK_MS = 10;
const MOST_FREEING_MS = 500;

interface Ended {
  readonly id: string;
  /** Grows with the time of the execution's end. */
  readonly score: number;
}

/**
 * Removes ended executions beyond the number kept, or beyond the memory that they may take: the oldest end first, an
 * execution with an unproved attempt never.
 */
export class EndedExecutions {
  private readonly removals: Removals;

  constructor(
    private readonly valkey: Valkey,
    private readonly room: StateRoom,
    private readonly options: Pick<Retention, 'maxEnded'>,
    /**
     * An execution that ended within this time is kept for a caller that may still wait for its end, whatever memory
     * it takes. While an order is open, the bound on their number spares such executions as well, since the receipt
     * may need the record. Milliseconds.
     */
    private readonly minAgeMs = MIN_AGE_MS,
  ) {
    this.removals = new Removals(valkey);
  }

  /** One bounded pass. Resolves with the number of executions removed. */
  async sweep(): Promise<number> {
    const { maxEnded = Number.POSITIVE_INFINITY } = this.options;
    const surplus = (await this.count()) - maxEnded;
    const removed = surplus > 0 ? await this.removeSurplus(Math.min(surplus, MOST_A_PASS)) : 0;
    return removed + (await this.makeRoom(MOST_A_PASS - removed));
  }

  private async removeSurplus(most: number): Promise<number> {
    const { redis, keys } = this.valkey;
    const open = await redis.scard(keys.shard(keys.control, 'orders:open'));
    return this.retireOldest(keys.tags(), most, open === 0 ? 0 : this.minAgeMs);
  }

  private async count(): Promise<number> {
    const { redis, keys } = this.valkey;
    const counts = await Promise.all(keys.tags().map(async (tag) => redis.zcard(keys.shard(tag, 'expiry'))));
    return counts.reduce((sum, one) => sum + one, 0);
  }

  private async makeRoom(most: number): Promise<number> {
    let removed = 0;
    while (removed < most) {
      const tight = await this.tightTags();
      if (tight.length === 0) return removed;
      const now = await this.retireOldest(tight, Math.min(BETWEEN_LOOKS, most - removed), this.minAgeMs);
      if (now === 0) return removed;
      removed += now;
      await this.untilFreed(tight);
    }
    return removed;
  }

  /** The shards on a server whose memory nears the bound. */
  private async tightTags(): Promise<string[]> {
    const { keys } = this.valkey;
    const looks = await Promise.all(
      keys.tags().map(async (tag) => {
        const look = await this.room.look(keys.shard(tag, 'expiry'), { fresh: true });
        return look !== undefined && look.usedBytes > look.limitBytes * TIGHT ? [tag] : [];
      }),
    );
    return looks.flat();
  }

  private async untilFreed(tags: readonly string[]): Promise<void> {
    const { keys, memory } = this.valkey;
    for (const tag of tags)
      for (let waited = 0; waited < MOST_FREEING_MS; waited += FREEING_LOOK_MS) {
        const look = await memory.atNow(keys.shard(tag, 'expiry'));
        if (look === undefined || look.freeing === 0) break;
        await delay(FREEING_LOOK_MS);
      }
  }

  private async retireOldest(tags: readonly string[], most: number, minAgeMs = 0): Promise<number> {
    let removed = 0;
    for (let at = 0; at < MOST_LOOKED_AT && removed < most; at += PAGE) {
      // Executions that were removed meanwhile have moved the others up.
      const page = await this.oldest(tags, Math.max(0, at - removed));
      if (page.length === 0) break;
      for (const { id } of page) {
        if (removed === most) break;
        if (await this.retire(id, minAgeMs)) removed++;
      }
    }
    return removed;
  }

  private async oldest(tags: readonly string[], from: number): Promise<Ended[]> {
    const { redis, keys } = this.valkey;
    const pages = await Promise.all(
      tags.map(async (tag) => {
        const rows = await redis.zrange(
          keys.shard(tag, 'expiry'),
          from,
          String(from + PAGE - 1),
          'WITHSCORES',
        );
        const ids = rows.filter((_, i) => i % 2 === 0);
        return ids.map((id, i): Ended => ({ id, score: Number(rows[2 * i + 1]) }));
      }),
    );
    return pages.flat().sort((a, b) => a.score - b.score);
  }

  private async retire(id: string, minAgeMs: number): Promise<boolean> {
    try {
      if (minAgeMs > 0 && (await this.removals.ageOf(id)) < minAgeMs) return false;
      if (minAgeMs > 0 && (await this.removals.neededBy(id)) !== undefined) return false;
      return await this.removals.retire(id);
    } catch (error) {
      // A record that cannot be read does not keep others from being removed.
      if (/WRONGTYPE|user_script/.test(String(error))) return false;
      throw error;
    }
  }
}
