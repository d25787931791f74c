import { randomUUID } from 'node:crypto';
import type { Valkey } from './valkey';

/**
 * A lock for each shard, so that one process at a time does a background job there. It is an optimisation, not mutual exclusion: a
 * suspended holder may continue, so the work must be idempotent.
 */
export class ShardLock {
  private readonly owner = randomUUID();
  private readonly held = new Set<string>();

  constructor(
    private readonly valkey: Valkey,
    private readonly job: string,
    /** The lock expires after this when it is not renewed. Milliseconds. */
    private readonly holdMs: number,
  ) {}

  /** Acquires or renews the lock of `tag`. The fencing number grows with every new holder; undefined: another process has it. */
  async take(tag: string): Promise<number | undefined> {
    const { held, fence } = await this.call(tag, this.holdMs);
    if (held) this.held.add(tag);
    else this.held.delete(tag);
    return held ? fence : undefined;
  }

  /** Releases every lock of this process, so that no other process has to wait for it to expire. */
  async giveBack(): Promise<void> {
    const tags = [...this.held];
    this.held.clear();
    await Promise.all(tags.map(async (tag) => this.call(tag, 0)));
  }

  private async call(tag: string, holdMs: number): Promise<{ held: boolean; fence: number }> {
    const { keys, scripts } = this.valkey;
    const reply = await scripts.json('acquireShardLock', keys.lock(tag, this.job), [
      tag,
      this.job,
      this.owner,
      holdMs,
    ]);
    return reply as unknown as { held: boolean; fence: number };
  }
}
