import type { Valkey } from '#libs/valkey';

/** An execution whose last watcher is missed, and that watcher. */
export interface Abandoned {
  readonly executionId: string;
  readonly watcher: string;
}

/** Abandoned executions answered at a time, for each shard. */
const MOST = 100;
/** One that was answered and not settled is answered again after this. Milliseconds. */
const AGAIN_MS = 10_000;

/**
 * The watchers of an execution that is to be stopped when nobody watches it. A watcher says again and again how long it
 * will not be missed; so it is missed too when its orchestrator dies, and another one notices.
 */
export class AttendanceStore {
  constructor(private readonly valkey: Valkey) {}

  /** The watcher is not missed for that long. */
  async attend(executionId: string, watcher: string, forMs: number): Promise<void> {
    const { keys, scripts } = this.valkey;
    const tag = keys.tagOf(executionId);
    await scripts.json('attendExecution', keys.shard(tag, 'watched'), [tag, executionId, '', watcher, forMs]);
  }

  /** The watcher needs not be missed any more: its execution ended, or was stopped. */
  async settle({ executionId, watcher }: Abandoned): Promise<void> {
    const { keys, redis } = this.valkey;
    await redis.zrem(keys.shard(keys.tagOf(executionId), 'watched'), `${executionId} ${watcher}`);
  }

  /** Executions whose last watcher is missed; each is answered again until it is settled. */
  async abandoned(): Promise<Abandoned[]> {
    const { keys, scripts } = this.valkey;
    const lists = await Promise.all(
      keys.tags().map(async (tag) => {
        const found = await scripts.json('findAbandoned', keys.shard(tag, 'watched'), [tag, MOST, AGAIN_MS]);
        return found as unknown as Abandoned[];
      }),
    );
    return lists.flat();
  }
}
