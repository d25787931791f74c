import type { Role } from './access/roles';
import type { Containment } from './evidence';
import type { Isolation } from './isolation';
import type { ExecutionId, OrderId, WorkerId } from './ids';
import type { TargetOutcome } from './orders';

/** The outcome of one canary tree. */
export interface CanaryResult {
  /** `deaf`, `double-fork`, `frozen`, `forking`. */
  readonly name: string;
  readonly outcome: TargetOutcome | 'not-started';
  /** SIGKILL was needed. */
  readonly escalated?: boolean;
  /** From the placing of the order. Milliseconds. */
  readonly provedMs?: number;
}

/**
 * `refused`: it failed. `named`: it succeeded, and docs/isolation.md names it for this worker's isolation. `broken`: it succeeded,
 * and should not have. `absent`: there was nothing here to try it with.
 */
export type AttackOutcome = 'refused' | 'named' | 'broken' | 'absent';

/** The outcome of one attack of a hostile drill. */
export interface AttackResult {
  /** `read-secrets`, `leave:double-fork` and so on. */
  readonly name: string;
  readonly outcome: AttackOutcome;
  /** How far it came. */
  readonly detail?: string;
}

/** Trees made to resist were started on one worker and killed over the real path (requirement R55). */
export interface DrillResult {
  readonly workerId: WorkerId;
  readonly host: string;
  /** Valkey's clock. */
  readonly at: number;
  readonly by: string;
  /** The role of the caller's token, and the HTTP request; absent of scheduled drills. */
  readonly role?: Role;
  readonly requestId?: string;
  readonly passed: boolean;
  /** Why it did not pass, as a sentence. */
  readonly detail?: string;
  readonly executionId?: ExecutionId;
  readonly orderId?: OrderId;
  /** From asking to the complete receipt. Milliseconds. */
  readonly tookMs?: number;
  readonly canaries: readonly CanaryResult[];
  /** Of a hostile drill: an agent tried to reach Belay, and to leave its tree. */
  readonly attacks?: readonly AttackResult[];
}

/** How a worker stands with its drills. */
export interface DrillStatus {
  readonly workerId: WorkerId;
  readonly last?: DrillResult;
  /** The last hostile one. */
  readonly hostile?: DrillResult;
  /** Drills are scheduled, and it has not passed one for too long. */
  readonly overdue: boolean;
}

/** One worker's answer to "can we stop, now?". */
export interface ArmedAnswer {
  readonly workerId: WorkerId;
  readonly armed: boolean;
  /** From asking to its answer. Milliseconds. */
  readonly afterMs?: number;
  readonly containment?: Containment;
  readonly isolation?: Isolation;
  /** The process beside the worker that ends its trees when it dies has answered. */
  readonly guardian?: boolean;
  readonly running?: number;
  readonly detail?: string;
}

export interface ArmedReport {
  readonly armed: boolean;
  readonly nonce: string;
  readonly workers: readonly ArmedAnswer[];
}
