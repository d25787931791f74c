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
  /** The limits' names that it counts under; absent where it was made without limits. */
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
 * The outcome of a job that a worker took. `done`: its outcome is stored, or the job is of no use any more. `refused`: another
 * worker may take it. `limited`: it waits for a slot under the fleet's limits. `parked`: a latch or a pause holds it back; the release or resume hands it over again.
 */
export type JobAnswer = 'done' | 'refused' | 'parked' | 'limited';

/** The pool that only this worker takes from: for nodes that must run on it, such as a drill's. No spec can use the name. */
export function ownPoolOf(workerId: WorkerId): string {
  return `@${workerId}`;
}

/** The name of a pool's queue. */
export function agentQueueName(pool: string): string {
  return `belay-agents-${pool}`;
}
