import type { AgentOutcome, ClaimedNode, Fence, FinishResult } from './agent-store.types';

/**
 * The port over which a process ends an attempt, and its injection token. libs/executions implements it: the end is stored with
 * the verdict of the node's retry policy, and the nodes that became ready are handed over. A library that must not know graphs
 * ends attempts over it.
 */
export abstract class AttemptEndPort {
  /** Repeatable. @throws BelayError STALE_EPOCH | INVALID_TRANSITION | NOT_FOUND */
  abstract end(fence: Fence, outcome: AgentOutcome, node: ClaimedNode): Promise<FinishResult>;
}
