import type { AgentId, ExecutionId, WorkerId } from './ids';

/** One attempt that waits to be handed to BullMQ: an entry of a shard's outbox. */
export interface DispatchEntry {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly attempt: number;
  readonly pool: string;
  readonly priority: number;
  /** Milliseconds to wait first: the backoff of a retry. */
  readonly delayMs: number;
  /** The names of limits under which it counts; absent where it was made without limits. */
  readonly limits?: readonly string[];
}

/** The data of one job in `belay-agents-<pool>`: ids only. */
export interface AgentJob {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly attempt: number;
}

/**
 * The answer to a job that a worker took. `done`: the outcome is stored, or the job is no longer needed. `refused`: another
 * worker may take it. `limited`: the attempt waits for a slot under the fleet's limits. `parked`: a latch or a pause keeps it
 * from starting; the release or resume hands it over again.
 */
export type JobAnswer = 'done' | 'refused' | 'parked' | 'limited';

/** The pool from which only this worker takes: for nodes that must run on it, such as a drill's. No spec can use the name. */
export function ownPoolOf(workerId: WorkerId): string {
  return `@${workerId}`;
}

/** The name of a pool's queue. */
export function agentQueueName(pool: string): string {
  return `belay-agents-${pool}`;
}
