import type { ExecutionId, LatchId } from './ids';
import type { ExecutionSummary } from './orders';
import type { NodeCounts, RecordedError, StopReason } from './records';
import type { ExecutionState } from './states';

/** The queue to which producers add jobs; a job's data is an execution spec (docs/producers.md). */
export const PRODUCERS_QUEUE = 'belay-executions';

/** The progress of a producer's job: the state of its execution, or why there is none yet. */
export type ProducerProgress =
  | { readonly executionId: ExecutionId; readonly state: ExecutionState; readonly nodes: NodeCounts }
  | { readonly waitingFor: 'latch'; readonly latchId?: LatchId; readonly message: string };

/** The return value of a producer's job, however its execution ended. */
export interface ProducerResult {
  readonly executionId: ExecutionId;
  readonly status: ExecutionState;
  readonly reason?: StopReason;
  readonly error?: RecordedError;
  readonly finalCostUsd: number;
  readonly summary: ExecutionSummary;
}
