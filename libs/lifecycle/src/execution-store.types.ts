import type {
  ActedBy,
  AgentId,
  DispatchEntry,
  ExecutionState,
  RecordedError,
  Selector,
  StopReason,
} from '#libs/contracts';

/** Why, by whom and by which order an execution is stopped. */
export interface StopRequest extends ActedBy {
  readonly reason: StopReason;
  readonly orderId?: string;
  readonly note?: string;
  readonly error?: RecordedError;
  /**
   * The shard's count of beginnings when the order was placed (ADR 0015). Work that began or was retried after it is
   * left alone.
   */
  readonly reach?: number;
  /** The order that the execution's record names and that no store has any more. This order takes its place. */
  readonly replaces?: string;
  /** Stop only if the execution's deadline has passed. The script decides that by the server's clock. */
  readonly isLate?: boolean;
}

/** A request to go on with an ended execution. */
export interface RetryRequest {
  /** A request with the same id is the same retry. */
  readonly retryId: string;
  readonly actor: string;
  /** Retry although an attempt of the execution may still run. */
  readonly force: boolean;
  /** The new budget, in US dollars. */
  readonly maxCostUsd?: number;
  /** The new budget, in tokens. */
  readonly maxTokens?: number;
}

export interface AdvanceResult {
  readonly state: ExecutionState;
  readonly more: boolean;
  readonly entries: readonly DispatchEntry[];
  /** Attempts that were handed over and are now cancelled: their jobs must go. */
  readonly dropped: readonly (readonly [agentId: AgentId, pool: string])[];
  /** There are limits, so a dropped attempt may wait for a slot. */
  readonly limited?: boolean;
}

export interface ExecutionQuery {
  readonly states?: readonly ExecutionState[];
  /** `k=v`; an execution must have all of them. */
  readonly labels?: readonly string[];
  /** Further conditions on the labels. */
  readonly selector?: Selector;
  readonly cursor?: string;
  readonly limit?: number;
}

/** An execution whose pause or resume has still to get its order. */
export interface MarkedHold {
  readonly id: string;
  /** Tells one pause or resume from another; empty where the record has none, as after its expiry. */
  readonly mark: string;
}
