import { shardOf } from '#libs/contracts';

/**
 * The only place that makes keys. All keys of one execution carry its shard's hash tag, so one script touches one slot and a
 * Cluster needs nothing else. Orders, workers and settings carry the control tag. The Lua includes make the same keys from the
 * same tag.
 */
export class Keyspace {
  constructor(
    readonly prefix: string,
    readonly shards: number,
  ) {}

  /** The control tag: orders, workers, settings. */
  get control(): string {
    return `{${this.prefix}:ctl}`;
  }

  /** The tag of a shard, by its number. */
  shardTag(shard: number): string {
    return `{${this.prefix}:${shard}}`;
  }

  /** The tag of the shard of an execution. */
  tagOf(executionId: string): string {
    return this.shardTag(shardOf(executionId, this.shards));
  }

  /** Every shard's tag. */
  tags(): string[] {
    return Array.from({ length: this.shards }, (_, shard) => this.shardTag(shard));
  }

  /** The key of an execution's record, or of one of its parts (`nodes`, `specs`, `agents`, `results`, …). */
  execution(executionId: string, part?: ExecutionPart): string {
    const base = `${this.tagOf(executionId)}:exe:${executionId}`;
    return part === undefined ? base : `${base}:${part}`;
  }

  /** The bounded log of one agent. */
  agentLog(executionId: string, agentId: string): string {
    return `${this.tagOf(executionId)}:log:${agentId}`;
  }

  /** A key of one shard: an index, the outbox, the event stream. */
  shard(tag: string, suffix: string): string {
    return `${tag}:${suffix}`;
  }

  worker(workerId: string): string {
    return `${this.control}:wrk:${workerId}`;
  }

  order(orderId: string): string {
    return `${this.control}:ord:${orderId}`;
  }

  orderTargets(orderId: string): string {
    return `${this.order(orderId)}:targets`;
  }

  /** Agents of a receipt without a confirmed outcome. */
  orderMissing(orderId: string): string {
    return `${this.order(orderId)}:missing`;
  }

  /** Targets that a worker has not dealt with yet: one "order agent" each. */
  ownTargets(workerId: string): string {
    return `${this.worker(workerId)}:targets`;
  }

  /** Pub/sub channel of every event. Events are hints, the streams are the truth. */
  get eventsChannel(): string {
    return `${this.prefix}:events`;
  }

  /** Pub/sub channel of the doorbell. */
  get doorbellChannel(): string {
    return `${this.prefix}:doorbell`;
  }
}

export type ExecutionPart =
  | 'nodes'
  | 'specs'
  | 'deps'
  | 'outs'
  | 'results'
  | 'agents'
  | 'order'
  | 'events'
  | 'todo'
  | 'open'
  | 'live'
  | 'said'
  | 'asks'
  | 'staged';
