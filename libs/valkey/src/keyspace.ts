import { shardOf, type AgentState, type ExecutionState, type WorkerState } from '#libs/contracts';

/** The keys of a shard whose names have no variable part; docs/architecture.md says what each one holds. */
export const SHARD_KEYS = [
  'advancing',
  'asks:due',
  'asks:unaudited',
  'births',
  'changes',
  'deadlines',
  'expiry',
  'freezing',
  'gone',
  'idx:exe',
  'idx:labels',
  'idx:node-labels',
  'latches',
  'limits',
  'outbox',
  'outbox:at',
  'pools',
  'quarantine',
  'removals',
  'suspended',
  'thawing',
  'thaws',
  'unproved',
  'unproved:kept',
  'watched',
] as const;

/** The keys under the control tag whose names have no variable part. */
export const CONTROL_KEYS = [
  'audit',
  'audit:head',
  'drills',
  'drills:begun',
  'drills:hostile',
  'events',
  'idx:ord',
  'latches',
  'latches:version',
  'leases',
  'leases:ms',
  'lim:at',
  'lim:held',
  'lim:waiting',
  'lim:woken',
  'limits',
  'lost',
  'orders',
  'orders:open',
  'quarantine',
  'settings',
  'tokens',
  'tokens:used',
  'webhooks:cursors',
  'webhooks:outcomes',
] as const;

/**
 * The only place that makes keys; keyspace.spec.ts finds a key that is built elsewhere. All keys of one execution carry its
 * shard's hash tag, so one script touches one slot and a Cluster needs nothing else. Orders, workers and settings carry the
 * control tag. The Lua includes make the same keys from the same tag.
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

  /** The place of an agent's whole output, beside its bounded log. */
  agentLogFile(executionId: string, agentId: string): string {
    return `${this.agentLog(executionId, agentId)}:meta`;
  }

  /** A key of SHARD_KEYS or CONTROL_KEYS. A key with a variable part has a method of its own. */
  shard(tag: string, name: string): string {
    return `${tag}:${name}`;
  }

  /** The lock of a background job on one shard. */
  lock(tag: string, job: string): string {
    return `${tag}:turn:${job}`;
  }

  /** The index of the executions in one state. */
  executionsIn(tag: string, state: ExecutionState): string {
    return `${tag}:idx:exe:${state}`;
  }

  /** The index of the executions with one label, `k=v`. */
  executionsLabelled(tag: string, label: string): string {
    return `${tag}:idx:lbl:${label}`;
  }

  /** The index of the agents in one state; all ended ones share an index. */
  agentsIn(tag: string, state: AgentState): string {
    return state === 'spawning' || state === 'running' ? `${tag}:idx:agt:${state}` : this.endedAgents(tag);
  }

  /** The index of the agents that have ended. */
  endedAgents(tag: string): string {
    return `${tag}:idx:agt:ended`;
  }

  /** The execution that an idempotency key made. */
  idempotency(tag: string, idempotencyKey: string): string {
    return `${tag}:idem:${idempotencyKey}`;
  }

  /** The attempts of a pool that no worker has claimed. */
  waiting(tag: string, pool: string): string {
    return `${tag}:wait:${pool}`;
  }

  /** The live agents of a worker in one shard. */
  ownedBy(tag: string, workerId: string): string {
    return `${tag}:own:${workerId}`;
  }

  /** The attempts of one shard that an order ended. */
  endedBy(tag: string, orderId: string): string {
    return `${tag}:ended:${orderId}`;
  }

  /** A lost attempt that was proved dead later. */
  proved(tag: string, agentId: string): string {
    return `${tag}:proved:${agentId}`;
  }

  worker(workerId: string): string {
    return `${this.control}:wrk:${workerId}`;
  }

  /** The index of the workers in one state. */
  workersIn(state: WorkerState): string {
    return `${this.control}:idx:wrk:${state}`;
  }

  /** The proof that a worker's agents ended. */
  workerProof(workerId: string): string {
    return `${this.control}:proof:${workerId}`;
  }

  /** An escapee that was reported. */
  escapee(workerId: string, pid: number, startTime: string): string {
    return `${this.control}:escapee:${workerId}:${pid}:${startTime}`;
  }

  /** A latch that was released. */
  releasedLatch(latchId: string): string {
    return `${this.control}:lat:${latchId}`;
  }

  /** The workers' answers to one nonce. */
  armed(nonce: string): string {
    return `${this.control}:armed:${nonce}`;
  }

  /** An orchestrator makes the spans of this state of an order. */
  traced(orderId: string, state: string): string {
    return `${this.control}:traced:${orderId}:${state}`;
  }

  order(orderId: string): string {
    return `${this.control}:ord:${orderId}`;
  }

  /** The executions that an order stopped. */
  orderStopped(orderId: string): string {
    return `${this.order(orderId)}:stopped`;
  }

  /** The confirmed targets of a receipt, in the order of its digest. */
  orderSealed(orderId: string): string {
    return `${this.order(orderId)}:sealed`;
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

  /** Pub/sub channel of the doorbell: each message names an order. A hint, the orders log is the truth. */
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
  | 'removed'
  | 'staged';
