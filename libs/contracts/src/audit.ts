import type { Role } from './access/roles';
import type { TokenRecord } from './access/tokens';
import type { AgentId, LatchId, OrderId, WorkerId } from './ids';
import type { OrderKind, StopMode, TargetOutcome } from './orders';
import type { QuestionId } from './questions';
import type { Scope } from './scope';

/** One act on the killswitch as the audit log keeps it. */
export interface AuditEntry {
  /** The stream's id. */
  readonly id: string;
  /** Counts from 1, without a gap. */
  readonly n: number;
  /** `order.open`, `order.complete`, `latch.engaged`, `latch.released`, … */
  readonly act: string;
  /** Valkey's clock. */
  readonly at: number;
  readonly by?: string;
  /** The role of the token that did it, and the HTTP request; absent of Belay's own acts. */
  readonly role?: Role;
  readonly requestId?: string;
  readonly note?: string;
  readonly reason?: string;
  readonly orderId?: OrderId;
  readonly latchId?: LatchId;
  readonly workerId?: WorkerId;
  readonly agentId?: AgentId;
  readonly kind?: OrderKind | 'latch' | 'pause';
  readonly scope?: Scope;
  /** Of a removal from a pool's queue, with the selector where there was one. */
  readonly pool?: string;
  readonly selector?: string;
  /** Of an answer: the question with the text that was seen. */
  readonly questionId?: QuestionId;
  readonly question?: string;
  readonly choices?: readonly string[];
  /** As JSON. */
  readonly detail?: string;
  /** The question's hash, to which the answer is bound. */
  readonly questionHash?: string;
  readonly answer?: string;
  /** When the answer was stored; the entry itself may come later. */
  readonly answeredAt?: number;
  /** The limits that were set, as JSON. */
  readonly limits?: string;
  /** The token that was made or revoked. */
  readonly token?: Pick<TokenRecord, 'name' | 'role' | 'selector' | 'expiresAt'>;
  /** Attempts that a removal took out. */
  readonly removed?: number;
  readonly mode?: StopMode;
  /** Stored a second time: a failover had lost it. */
  readonly again?: true;
  readonly missing?: number;
  readonly outcomes?: Readonly<Partial<Record<TargetOutcome, number>>>;
  /** Executions that the order stopped: how many, and 100 of them. */
  readonly executions?: { readonly count: number; readonly ids: readonly string[] };
  /** Of the receipt, where this entry completed one. */
  readonly digest?: string;
  /** SHA-1 of the order's record as it was placed, where the entry was written with it. */
  readonly orderDigest?: string;
  /** Over the entry before and this one. */
  readonly hash: string;
}

/** Something in the log, or kept beside it, that is not as it was written: at which entry, and what. */
export interface AuditFault {
  readonly id: string;
  readonly fault: string;
}

/** The result of computing the audit log's chain again. */
export interface AuditVerdict {
  readonly entries: number;
  /** Complete receipts that are kept, whose digest was computed again. */
  readonly receipts: number;
  /** The last hash: kept elsewhere, it also shows a log that was rewritten as a whole. */
  readonly head?: string;
  readonly intact: boolean;
  readonly faults: readonly AuditFault[];
}
