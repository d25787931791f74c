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
  /** The time from the placing of the order. Milliseconds. */
  readonly provedMs?: number;
}

/**
 * `refused`: the attack failed. `named`: it succeeded, and docs/isolation.md names it for this worker's isolation. `broken`: it
 * succeeded and should have failed. `absent`: the means for it were missing here.
 */
export type AttackOutcome = 'refused' | 'named' | 'broken' | 'absent';

/** The outcome of one attack of a hostile drill. */
export interface AttackResult {
  /** `read-secrets`, `leave:double-fork` and so on. */
  readonly name: string;
  readonly outcome: AttackOutcome;
  /** How far the attack came. */
  readonly detail?: string;
}

/**
 * The result of a drill: process trees that resist were started on one worker and killed over the real path
 * (docs/killswitch.md#before-you-need-it).
 */
export interface DrillResult {
  readonly workerId: WorkerId;
  readonly host: string;
  /** The server's clock. */
  readonly at: number;
  readonly by: string;
  /** The role of the caller's token, and the HTTP request; absent for scheduled drills. */
  readonly role?: Role;
  readonly requestId?: string;
  readonly passed: boolean;
  /** Why the drill did not pass, as a sentence. */
  readonly detail?: string;
  readonly executionId?: ExecutionId;
  readonly orderId?: OrderId;
  /** The time from the request to the complete receipt. Milliseconds. */
  readonly tookMs?: number;
  readonly canaries: readonly CanaryResult[];
  /** Of a hostile drill: an agent tried to reach Belay, and to leave its tree. */
  readonly attacks?: readonly AttackResult[];
}

/** The drills of a worker. */
export interface DrillStatus {
  readonly workerId: WorkerId;
  readonly last?: DrillResult;
  /** The last hostile drill. */
  readonly hostile?: DrillResult;
  /** Drills are scheduled, and the worker has not passed one for too long. */
  readonly overdue: boolean;
}

/** One worker's answer to "could it stop everything now?". */
export interface ArmedAnswer {
  readonly workerId: WorkerId;
  readonly armed: boolean;
  /** The time from the request to the answer. Milliseconds. */
  readonly afterMs?: number;
  readonly containment?: Containment;
  readonly isolation?: Isolation;
  /** Whether the guardian has answered: the process beside the worker that ends its trees when the worker dies. */
  readonly guardian?: boolean;
  readonly running?: number;
  readonly detail?: string;
}

export interface ArmedReport {
  readonly armed: boolean;
  readonly nonce: string;
  readonly workers: readonly ArmedAnswer[];
}
