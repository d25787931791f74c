import type { AgentId, ExecutionId, LatchId, OrderId, WorkerId } from './ids';
import type { Grade, StopReport } from './evidence';
import type { Latch } from './latches';
import type { ExecutionRecord, StopReason } from './records';
import { scopeKey, type Scope } from './scope';
import type { ScopeWarning } from './selector';
import type { ExecutionState, OrderState } from './states';

/** `graceful`: stop signal, grace, SIGKILL. `immediate`: SIGKILL at once. */
export type StopMode = 'graceful' | 'immediate';

/** `kill` ends, `freeze` stops where it stands, `thaw` lets go on. */
export const ORDER_KINDS = ['kill', 'freeze', 'thaw'] as const;
export type OrderKind = (typeof ORDER_KINDS)[number];

/** A durable command to workers. Written to the log before it is announced. */
export interface Order {
  readonly id: OrderId;
  /** Its id in the orders log; what a worker's cursor counts. Absent until it is placed. */
  readonly seq: string;
  readonly kind: OrderKind;
  readonly scope: Scope;
  readonly mode: StopMode;
  /** Milliseconds; absent: each node's own. */
  readonly graceMs?: number;
  readonly reason: StopReason;
  /** A person's words. */
  readonly note?: string;
  /** Who asked. */
  readonly by: string;
  /** The latch engaged in the same act; of a thaw, the one that was released. */
  readonly latchId?: LatchId;
  /** Valkey's clock. For people: what an order reaches is told by `reach`. */
  readonly placedAt: number;
  /** By shard, how much had begun there when it was asked: what is younger is not its. Absent: kept with its receipt. */
  readonly reach?: Reach;
}

/** By the tag of a shard, how many claims, executions and retries had begun there. */
export type Reach = Readonly<Record<string, number>>;

/**
 * What the doorbell carries: the order, at its second ring with the agents its resolved scope holds. A worker stops
 * those whatever their age; by scope alone `all` and `worker` reach only agents claimed before the order was placed.
 */
export interface Ring {
  readonly order: Order;
  readonly targets?: readonly AgentId[];
}

/** What a freeze puts on a tree and its thaw takes off: two freezes of one scope are two holds. */
export function holdOf({ latchId, scope }: Pick<Order, 'latchId' | 'scope'>): string {
  return latchId ?? scopeKey(scope);
}

/** `already-ended`: it had ended by itself before the order reached it. `unconfirmed`: no evidence, still tried. */
export type TargetOutcome =
  'pending' | 'killed' | 'frozen' | 'thawed' | 'already-ended' | 'failed' | 'unconfirmed';

/** Outcomes with evidence behind them; the others keep an order open. */
export const CONFIRMED_OUTCOMES: readonly TargetOutcome[] = ['killed', 'frozen', 'thawed', 'already-ended'];

/** Milliseconds from the placing of the order, Valkey's clock, to what the worker saw on its own. */
export interface TargetLatency {
  readonly signalledMs?: number;
  readonly firstExitMs?: number;
  readonly provedMs?: number;
}

export interface TargetReceipt {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly workerId: WorkerId;
  readonly outcome: TargetOutcome;
  readonly detail?: string;
  readonly latency?: TargetLatency;
  readonly report?: StopReport;
  /** What the proof of its death rests on; absent where nothing is proved, or no process was there to prove dead. */
  readonly grade?: Grade;
}

/** The evidence that an order was carried out, process by process. */
export interface Receipt {
  readonly orderId: OrderId;
  readonly order: Order;
  readonly state: OrderState;
  /** True only when every target is confirmed. */
  readonly complete: boolean;
  readonly resolvedAt?: number;
  readonly completedAt?: number;
  /**
   * Whether a replica had the order within 100 ms. False: none said so in time, a failover right then may lose it and
   * whoever gave it gives it again. Absent: the server has no replicas.
   */
  readonly replicated?: boolean;
  /** Executions that it stopped, those that nothing ran of too; the first 10,000. */
  readonly executions?: readonly ExecutionId[];
  /** Of a selector that nothing met when the targets were named. The latch of the order holds all the same. */
  readonly warning?: ScopeWarning;
  /** The latch engaged with it, as it stands now. */
  readonly latch?: Latch;
  /** A person closed what could not be confirmed. */
  readonly closed?: { readonly at: number; readonly by: string; readonly note: string };
  /** Chained over the confirmed targets in the order they were reported; the audit log holds it too. */
  readonly digest?: string;
  readonly totals: {
    readonly total: number;
    readonly killed: number;
    readonly frozen: number;
    readonly thawed: number;
    readonly alreadyEnded: number;
    readonly failed: number;
    readonly unconfirmed: number;
    readonly pending: number;
  };
  readonly targets: readonly TargetReceipt[];
  /** The lowest of its targets. */
  readonly grade?: Grade;
  /** What is not confirmed yet, and where. Empty when complete. */
  readonly missing: readonly { readonly agentId: AgentId; readonly workerId: WorkerId }[];
}

/** How an execution went, in numbers. */
export interface ExecutionSummary {
  readonly nodesCompleted: number;
  readonly nodesFailed: number;
  readonly nodesTotal: number;
  readonly durationMs: number;
}

/** @param now Valkey's clock: the end of what has not ended. Milliseconds. */
export function summaryOf(record: ExecutionRecord, now: number): ExecutionSummary {
  const endedAt = record.stoppedAt ?? record.completedAt ?? now;
  return {
    nodesCompleted: record.nodes.completed,
    nodesFailed: record.nodes.failed,
    nodesTotal: record.nodes.total,
    durationMs: endedAt - (record.startedAt ?? record.createdAt),
  };
}

/** What stop answers (R19). */
export interface StopResponse {
  readonly status: ExecutionState;
  readonly executionId: ExecutionId;
  readonly reason?: StopReason;
  readonly finalCostUsd: number;
  /** True while some agent's cost could not be collected to its end. */
  readonly costEstimated: boolean;
  readonly stoppedAt?: number;
  readonly summary: ExecutionSummary;
  readonly receipt?: Receipt;
}
