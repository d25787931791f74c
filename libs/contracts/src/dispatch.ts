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
 * What became of a job that a worker took. `done`: its outcome is stored, or it is of no use any more. `refused`: another
 * worker may take it. `parked`: a latch or a pause keeps it back, and its end hands it over again.
 */
export type JobAnswer = 'done' | 'refused' | 'parked';

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
