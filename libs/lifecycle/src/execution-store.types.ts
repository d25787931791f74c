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
  /** The count of its shard's beginnings when it was asked: what began, or was retried, after that is left alone. */
  readonly reach?: number;
  /** An order that its record names and nobody has any more: this one takes its place. */
  readonly replaces?: string;
  /** Only if its deadline has passed, which the script sees itself. */
  readonly isLate?: boolean;
}

/** How an ended execution goes on. */
export interface RetryRequest {
  /** The same again is the same retry. */
  readonly retryId: string;
  readonly actor: string;
  /** Although an attempt of it may still run. */
  readonly force: boolean;
  /** In place of its budget, in US dollars. */
  readonly maxCostUsd?: number;
}

export interface AdvanceResult {
  readonly state: ExecutionState;
  readonly more: boolean;
  readonly entries: readonly DispatchEntry[];
  /** Attempts that were handed over and are cancelled now: their jobs are of no use any more. */
  readonly dropped: readonly (readonly [agentId: AgentId, pool: string])[];
  /** There are limits, so what is dropped may wait for one. */
  readonly limited?: boolean;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor?: string;
  /** Only of a last page: there are more than a list reads, and the oldest of them are left out. */
  readonly truncated?: true;
}

export interface ExecutionQuery {
  readonly states?: readonly ExecutionState[];
  /** `k=v`; all must hold. */
  readonly labels?: readonly string[];
  /** Conditions that the labels must meet besides. */
  readonly selector?: Selector;
  readonly cursor?: string;
  readonly limit?: number;
}
