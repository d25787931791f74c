import type { ExecutionId, LatchId } from './ids';
import type { ExecutionSummary } from './orders';
import type { NodeCounts, RecordedError, StopReason } from './records';
import type { ExecutionState } from './states';

/** The queue a producer adds jobs to: a job's data is an execution spec (requirement R70). */
export const PRODUCERS_QUEUE = 'belay-executions';

/** A producer's job's progress: what became of its execution so far, or why there is none yet. */
export type ProducerProgress =
  | { readonly executionId: ExecutionId; readonly state: ExecutionState; readonly nodes: NodeCounts }
  | { readonly waitingFor: 'latch'; readonly latchId?: LatchId; readonly message: string };

/** A producer's job's return value, however its execution ended. */
export interface ProducerResult {
  readonly executionId: ExecutionId;
  readonly status: ExecutionState;
  readonly reason?: StopReason;
  readonly error?: RecordedError;
  readonly finalCostUsd: number;
  readonly summary: ExecutionSummary;
}
