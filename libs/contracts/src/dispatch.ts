import type { AgentId, ExecutionId, WorkerId } from './ids';

/** One attempt waiting to be handed to BullMQ: an entry of a shard's outbox. */
export interface DispatchEntry {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly attempt: number;
  readonly pool: string;
  readonly priority: number;
  /** Milliseconds to wait first: a retry's backoff. */
  readonly delayMs: number;
}

/** The data of one job in `belay-agents-<pool>`: ids only. */
export interface AgentJob {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly attempt: number;
}

/**
 * The pool only one worker takes from, whatever pools it has: for what must run on that worker, such as a drill. Not a
 * name a spec can use.
 */
export function ownPoolOf(workerId: WorkerId): string {
  return `@${workerId}`;
}

/** The name of a pool's queue. */
export function agentQueueName(pool: string): string {
  return `belay-agents-${pool}`;
}
