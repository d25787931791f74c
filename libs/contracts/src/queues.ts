import type { LatchId } from './ids';
import type { ScopeWarning } from './selector';

/** The attempts of one pool in one shard, or in all of them together, by Belay's own records. */
export interface PoolCounts {
  readonly pool: string;
  /** Attempts that a worker may claim now. */
  readonly waiting: number;
  /** Attempts that must still wait before they start: a retry's backoff, a node's delay. */
  readonly delayed: number;
  /** Attempts that a worker owns. */
  readonly active: number;
  /** How long the oldest attempt of `waiting` has waited, by the server's clock; absent where none waits. Milliseconds. */
  readonly oldestMs?: number;
}

/** The queue of one pool (docs/cli.md#belay-queues). */
export interface QueueRecord extends PoolCounts {
  /** Running workers of the pool. */
  readonly workers: number;
  /** The pause that keeps its attempts from being claimed. */
  readonly pause?: {
    readonly latchId: LatchId;
    readonly by: string;
    readonly since: number;
    readonly note?: string;
  };
  /** Latches and freezes that cover the whole pool. A resume of the queue does not end them. */
  readonly latches: readonly LatchId[];
}

/** With BullMQ's own counts of its jobs, which are hints: a job may no longer be needed. */
export interface QueueDetail extends QueueRecord {
  readonly bullmq: Readonly<Record<string, number>>;
}

/** The answer to a pause or a resume of a queue. */
export interface QueuePaused {
  readonly queue: QueueRecord;
  /** The queue had that state before, and nothing was changed. */
  readonly already: boolean;
  /** Of a pause: no live worker serves the pool, and no attempt waits for it. The pause is in force all the same. */
  readonly warning?: ScopeWarning;
}

/** The answer to a removal, or to its dry run: what it removed, or would remove. */
export interface QueueRemoval {
  readonly removed: number;
  /** There were more attempts than one call removes: call again. */
  readonly more: boolean;
}
