import type { AgentId, LatchId, OrderId, WorkerId } from './ids';
import type { OrderKind, Scope, TargetOutcome } from './orders';

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
  readonly note?: string;
  readonly reason?: string;
  readonly orderId?: OrderId;
  readonly latchId?: LatchId;
  readonly workerId?: WorkerId;
  readonly agentId?: AgentId;
  readonly kind?: OrderKind | 'latch';
  readonly scope?: Scope;
  /** Stored a second time: a failover had lost it. */
  readonly again?: true;
  readonly missing?: number;
  readonly outcomes?: Readonly<Partial<Record<TargetOutcome, number>>>;
  /** Of the receipt, where this entry completed one. */
  readonly digest?: string;
  /** Over the entry before and this one. */
  readonly hash: string;
}

/** What computing the audit log's chain again has shown. */
export interface AuditVerdict {
  readonly entries: number;
  /** Receipts whose digest was computed again. */
  readonly receipts: number;
  /** The last hash: kept elsewhere, it also shows a log that was rewritten as a whole. */
  readonly head?: string;
  readonly intact: boolean;
  readonly faults: readonly { readonly id: string; readonly fault: string }[];
}
