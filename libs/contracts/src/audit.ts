import type { Role } from './access/roles';
import type { TokenRecord } from './access/tokens';
import type { AgentId, LatchId, OrderId, WorkerId } from './ids';
import type { OrderKind, StopMode, TargetOutcome } from './orders';
import type { QuestionId } from './questions';
import type { Scope } from './scope';

/** One act on the killswitch, as the audit log has it. */
export interface AuditEntry {
  /** The stream's id. */
  readonly id: string;
  /** Counts from 1, without a gap. */
  readonly n: number;
  /** `order.open`, `order.complete`, `latch.engaged`, `latch.released`, … */
  readonly act: string;
  /** The server's clock. */
  readonly at: number;
  readonly by?: string;
  /** The role of the token, and the HTTP request; absent for Belay's own acts. */
  readonly role?: Role;
  readonly requestId?: string;
  readonly note?: string;
  /** Of a release that needed two people: the first of them. */
  readonly approvedBy?: string;
  readonly reason?: string;
  readonly orderId?: OrderId;
  readonly latchId?: LatchId;
  readonly workerId?: WorkerId;
  readonly agentId?: AgentId;
  readonly kind?: OrderKind | 'latch' | 'pause';
  readonly scope?: Scope;
  /** Of a removal from a pool's queue, with the selector if there was one. */
  readonly pool?: string;
  readonly selector?: string;
  /** Of an answer: the question, and the text that the person saw. */
  readonly questionId?: QuestionId;
  readonly question?: string;
  readonly choices?: readonly string[];
  /** JSON text. */
  readonly detail?: string;
  /** The question's hash, to which the answer is bound. */
  readonly questionHash?: string;
  readonly answer?: string;
  /** When the answer was stored; the entry itself may come later. */
  readonly answeredAt?: number;
  /** The limits that were set, as JSON. */
  readonly limits?: string;
  /** The token that was made or revoked. */
  readonly token?: Pick<TokenRecord, 'name' | 'role' | 'selector' | 'expiresAt' | 'rate'>;
  /** Attempts that a removal took out. */
  readonly removed?: number;
  readonly mode?: StopMode;
  /** Present when the act was stored a second time, because a failover had lost it. */
  readonly again?: true;
  readonly missing?: number;
  readonly outcomes?: Readonly<Partial<Record<TargetOutcome, number>>>;
  /** Executions that the order stopped: their number, and 100 of them. */
  readonly executions?: { readonly count: number; readonly ids: readonly string[] };
  /** The digest of the receipt, if this entry completed one. */
  readonly digest?: string;
  /** SHA-1 of the order's record at its placing, if the entry was written with it. */
  readonly orderDigest?: string;
  /** The hash over the entry before and this one. */
  readonly hash: string;
}

/** A part of the log, or of the records beside it, that is not as it was written: the entry, and the fault. */
export interface AuditFault {
  readonly id: string;
  readonly fault: string;
}

/** The result of computing the audit log's chain again. */
export interface AuditVerdict {
  readonly entries: number;
  /** The number of kept complete receipts whose digest was computed again. */
  readonly receipts: number;
  /** The last hash. A copy kept elsewhere also reveals a log that was rewritten as a whole. */
  readonly head?: string;
  readonly intact: boolean;
  readonly faults: readonly AuditFault[];
}
