/** The token of the orchestrator's OrchestratorOptions. */
export const ORCHESTRATOR_OPTIONS = Symbol('belay.orchestrator-options');

export interface OrchestratorOptions {
  /** The time between two sweeps of the open orders and of abandoned executions. Milliseconds. */
  readonly sweepMs: number;
  readonly onError: (error: unknown) => void;
}
