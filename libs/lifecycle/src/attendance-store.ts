import type { Valkey } from '#libs/valkey';

/** An execution whose last watcher has gone, and that watcher. */
export interface Abandoned {
  readonly executionId: string;
  readonly watcher: string;
}

/** One call returns this many abandoned executions of each shard at most. */
const MOST = 100;
/** An abandoned execution that nobody settled is returned again after this time. Milliseconds. */
const AGAIN_MS = 10_000;

/**
 * The watchers of an execution that stops when nobody watches it any more. Each watcher announces its presence for a
 * limited time, again and again. So a watcher is also missed when its orchestrator dies, and another orchestrator
 * notices.
 */
export class AttendanceStore {
  constructor(private readonly valkey: Valkey) {}

  /** Counts the watcher as present for that long. */
  async attend(executionId: string, watcher: string, forMs: number): Promise<void> {
    const { keys, scripts } = this.valkey;
    const tag = keys.tagOf(executionId);
    await scripts.json('attendExecution', keys.shard(tag, 'watched'), [tag, executionId, '', watcher, forMs]);
  }

  /** Forgets the watcher: its execution has ended, or was stopped. */
  async settle({ executionId, watcher }: Abandoned): Promise<void> {
    const { keys, redis } = this.valkey;
    await redis.zrem(keys.shard(keys.tagOf(executionId), 'watched'), `${executionId} ${watcher}`);
  }

  /** Executions whose last watcher has gone. Each is returned again until it is settled. */
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
