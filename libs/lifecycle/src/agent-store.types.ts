import type {
  ActedBy,
  Containment,
  DispatchEntry,
  Dropped,
  ExecutionState,
  LatchRefusal,
  NodeSpec,
  NodeState,
  RecordedError,
  Signal,
  StopReason,
  StopReport,
  SuspendRequest,
} from '#libs/contracts';
import type { StopRequest } from './execution-store.types';

/** A worker's right to write: the claim's owner and fencing number. */
export interface Fence {
  readonly agentId: string;
  readonly owner: string;
  readonly epoch: number;
}

export type Claim =
  | {
      readonly claimed: true;
      readonly fence: Fence;
      /** The server's clock, milliseconds. */
      readonly claimedAt: number;
      /** The attempt's place in the count of all attempts that have begun in its shard (ADR 0015). */
      readonly born: number;
      readonly pool: string;
      /** The labels of the execution and of the node, merged. */
      readonly labels: Readonly<Record<string, string>>;
      readonly executionName: string;
      readonly graceMs?: number;
      readonly previousId?: string;
      readonly node: ClaimedNode;
      readonly isRecovery: boolean;
      /** The newest checkpoint of the attempts before this one. */
      readonly lastCheckpoint?: unknown;
      /** The signal that woke the node. */
      readonly wokenBy?: Signal;
    }
  | {
      readonly claimed: false;
      readonly why: string;
      readonly state?: string;
      /** The latch that covers the attempt, when `why` is LATCHED. */
      readonly latch?: LatchRefusal;
      /** The full limit that the attempt waits for, when `why` is LIMITED. */
      readonly limit?: string;
      /** The script's answer, when `why` is LIMITED. */
      readonly limited?: {
        readonly version: string;
        readonly names: readonly string[];
        readonly entry: Omit<DispatchEntry, 'delayMs'>;
      };
    };

/** A node's spec, with the number of earlier attempts that count for its retry policy. */
export type ClaimedNode = NodeSpec & { readonly priorAttempts?: number };

/** The cost of an attempt in all, by its own report. */
export interface Spent {
  readonly costUsd?: number;
  /** A part of the cost is an estimate. */
  readonly costEstimated?: boolean;
  /** The tokens of language models. */
  readonly tokens?: number;
}

/** How an attempt ended. */
export interface AgentOutcome extends Spent, ActedBy {
  readonly state: 'completed' | 'failed' | 'killed';
  readonly exitCode?: number;
  readonly signal?: string;
  readonly reason?: StopReason;
  readonly error?: RecordedError;
  readonly report?: StopReport;
  readonly orderId?: string;
  /** Nothing proves that the attempt is dead: the lease of its worker ran out. */
  readonly lost?: boolean;
  readonly result?: unknown;
  /** The attempt completed its part, and its node waits for that signal. */
  readonly suspend?: SuspendRequest;
  /** Milliseconds to wait before the next attempt; absent: there is no next attempt. */
  readonly retryInMs?: number;
  /** Set when the order stops the whole execution, and not this agent alone. */
  readonly stop?: StopRequest;
}

/** The process that an attempt was started as. */
export interface StartedProcess {
  readonly pid: number;
  readonly pidStartTime: string;
  readonly containment: Containment;
}

export interface FinishResult {
  readonly state: ExecutionState;
  readonly node: NodeState;
  readonly entries: readonly DispatchEntry[];
  readonly more: boolean;
  /** The execution is stopping while other agents of it live: the caller must place an order for them. */
  readonly stopNeeded: boolean;
  readonly repeated?: boolean;
}

/**
 * A live agent's messages since its last report. Costs and tokens are totals over the agent's life, so a repeated report
 * adds nothing.
 */
export interface AgentSaid extends Spent {
  readonly progress?: unknown;
  readonly checkpoint?: unknown;
  readonly badLines?: number;
  /** Totals over the agent's life. */
  readonly dropped?: Dropped;
  readonly events?: readonly SaidNow[];
}

/** A handler's request about one of its steps. */
export type StepAct =
  /** `isIdempotent`: the step may run again if an earlier attempt ended while it executed the step. */
  | { readonly act: 'begin'; readonly isIdempotent: boolean }
  | { readonly act: 'done'; readonly result?: unknown };

/** The stored state of a step. */
export type StepState =
  | { readonly state: 'begun' }
  | { readonly state: 'done'; readonly result?: unknown }
  /** That attempt ended while it executed the step: nobody knows whether the step took effect. */
  | { readonly state: 'undecided'; readonly by: string };

/** An event, or the news that something was dropped; `n` counts up from 1 over the agent's life. */
export type SaidNow =
  | { readonly n: number; readonly name: string; readonly data?: unknown }
  | { readonly n: number; readonly dropped: Dropped };
