import type {
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
      /** Valkey's clock. */
      readonly claimedAt: number;
      /** Its number among all that has begun in its shard. */
      readonly born: number;
      readonly pool: string;
      /** The execution's and the node's together. */
      readonly labels: Readonly<Record<string, string>>;
      readonly executionName: string;
      readonly graceMs?: number;
      readonly previousId?: string;
      readonly node: ClaimedNode;
      readonly isRecovery: boolean;
      /** The last one an attempt before this said. */
      readonly lastCheckpoint?: unknown;
      /** The signal that woke its node. */
      readonly wokenBy?: Signal;
    }
  | {
      readonly claimed: false;
      readonly why: string;
      readonly state?: string;
      /** The latch that covers it, when `why` is LATCHED. */
      readonly latch?: LatchRefusal;
      /** The full limit that it waits for, when `why` is LIMITED. */
      readonly limit?: string;
      /** The script's own words, when `why` is LIMITED. */
      readonly limited?: {
        readonly version: string;
        readonly names: readonly string[];
        readonly entry: Omit<DispatchEntry, 'delayMs'>;
      };
    };

/** A node's spec with how its policy counts. */
export type ClaimedNode = NodeSpec & { readonly priorAttempts?: number };

/** How an attempt ended. */
export interface AgentOutcome {
  readonly state: 'completed' | 'failed' | 'killed';
  readonly exitCode?: number;
  readonly signal?: string;
  readonly reason?: StopReason;
  readonly error?: RecordedError;
  readonly report?: StopReport;
  readonly costUsd?: number;
  readonly actor?: string;
  readonly orderId?: string;
  /** Nothing proves that it is dead: its worker's lease ran out. */
  readonly lost?: boolean;
  readonly result?: unknown;
  /** It completed its part, and its node waits for that signal. */
  readonly suspend?: SuspendRequest;
  /** Milliseconds to wait before another attempt; absent: there is none. */
  readonly retryInMs?: number;
  /** The order stops the whole execution, not this agent alone. */
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
  /** The execution is stopping and other agents of it live: an order must reach them. */
  readonly stopNeeded: boolean;
  readonly repeated?: boolean;
}

/** A live agent's messages since the last report. Costs are totals over its life, so a repeated report adds nothing. */
export interface AgentSaid {
  readonly costUsd?: number;
  readonly progress?: unknown;
  readonly checkpoint?: unknown;
  readonly badLines?: number;
  /** Totals over its life. */
  readonly dropped?: Dropped;
  readonly events?: readonly SaidNow[];
}

/** A handler's request about one of its steps. */
export type StepAct =
  /** `isIdempotent`: it may run again although an attempt was executing it as that attempt ended. */
  | { readonly act: 'begin'; readonly isIdempotent: boolean }
  | { readonly act: 'done'; readonly result?: unknown };

/** The stored state of a step. */
export type StepState =
  | { readonly state: 'begun' }
  | { readonly state: 'done'; readonly result?: unknown }
  /** That attempt was executing it as it ended: nobody knows whether it happened. */
  | { readonly state: 'undecided'; readonly by: string };

/** An event, or that something was dropped; `n` counts up from 1 over the agent's life. */
export type SaidNow =
  | { readonly n: number; readonly name: string; readonly data?: unknown }
  | { readonly n: number; readonly dropped: Dropped };
