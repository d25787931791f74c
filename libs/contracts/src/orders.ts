import type { Role } from './access/roles';
import type { AgentId, ExecutionId, LatchId, OrderId, WorkerId } from './ids';
import type { Grade, StopReport } from './evidence';
import type { Latch } from './latches';
import type { ExecutionRecord, StopReason } from './records';
import { scopeKey, type Scope } from './scope';
import type { ScopeWarning } from './selector';
import type { ExecutionState, OrderState } from './states';

/** `graceful`: stop signal, grace, SIGKILL. `immediate`: SIGKILL at once. */
export type StopMode = 'graceful' | 'immediate';

/** `kill` ends processes, `freeze` stops them where they stand, `thaw` lets them go on. */
export const ORDER_KINDS = ['kill', 'freeze', 'thaw'] as const;
export type OrderKind = (typeof ORDER_KINDS)[number];

/** A durable command to workers. It is written to the log before it is announced. */
export interface Order {
  readonly id: OrderId;
  /** The order's id in the orders log; a worker's cursor is the last one that it read. Absent until the order is placed. */
  readonly seq: string;
  readonly kind: OrderKind;
  readonly scope: Scope;
  readonly mode: StopMode;
  /** Milliseconds; absent: each node's own. */
  readonly graceMs?: number;
  readonly reason: StopReason;
  /** A person's note. */
  readonly note?: string;
  /** The caller's name. */
  readonly by: string;
  /** The role of the caller's token, and the HTTP request; absent for Belay's own orders. */
  readonly role?: Role;
  readonly requestId?: string;
  /** The latch engaged with the order; of a thaw, the latch that was released. */
  readonly latchId?: LatchId;
  /** The number of people that the release of its latch needs. Absent: one. */
  readonly releaseNeeds?: number;
  /** The server's clock. For people only: `reach` decides which agents the order reaches. */
  readonly placedAt: number;
  /**
   * The starts in each shard when the order was asked for: it does not reach an agent with a higher number. Absent: the order's
   * record stores it beside the receipt.
   */
  readonly reach?: Reach;
}

/** For each shard's tag, the number of claims, executions and retries that had begun there (ADR 0015). */
export type Reach = Readonly<Record<string, number>>;

/**
 * The doorbell's message: the order, and at its second ring the agents that its resolved scope covers. A worker stops those
 * whatever their age; by scope alone `all` and `worker` reach only agents claimed before the order was placed.
 */
export interface Ring {
  readonly order: Order;
  readonly targets?: readonly AgentId[];
}

/** The key of a freeze, by which its thaw ends it: two freezes of one scope have two keys. */
export function holdOf({ latchId, scope }: Pick<Order, 'latchId' | 'scope'>): string {
  return latchId ?? scopeKey(scope);
}

/**
 * `already-ended`: the agent had ended by itself before the order reached it. `unconfirmed`: there is no evidence yet, and
 * Belay keeps trying.
 */
export type TargetOutcome =
  'pending' | 'killed' | 'frozen' | 'thawed' | 'already-ended' | 'failed' | 'unconfirmed';

/** Outcomes with evidence. The others keep an order open. */
export const CONFIRMED_OUTCOMES: readonly TargetOutcome[] = ['killed', 'frozen', 'thawed', 'already-ended'];

/** Milliseconds from the placing of the order, by the server's clock, to the worker's event, by the worker's. */
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
  /** The strength of the proof of death; absent where nothing is proved, or there was no process. */
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
   * Whether a replica had the order within 100 ms. False: none confirmed in time, and a failover right then may lose the order;
   * the orchestrator that placed it stores it again. Absent: the server has no replicas.
   */
  readonly replicated?: boolean;
  /** Executions that the order stopped, also those without a running agent; the first 10,000. */
  readonly executions?: readonly ExecutionId[];
  /** Present when the selector matched nothing as the targets were named. The order's latch is in force all the same. */
  readonly warning?: ScopeWarning;
  /** The latch engaged with the order, in its present state. */
  readonly latch?: Latch;
  /** Present when a person closed the order although targets are not confirmed. */
  readonly closed?: { readonly at: number; readonly by: string; readonly note: string };
  /** A hash chained over the confirmed targets in the order of their reports; the audit log has it too. */
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
  /** The lowest grade of its targets. */
  readonly grade?: Grade;
  /** The unconfirmed targets, and their workers. Empty when complete. */
  readonly missing: readonly { readonly agentId: AgentId; readonly workerId: WorkerId }[];
}

/** How an execution went, in numbers. */
export interface ExecutionSummary {
  readonly nodesCompleted: number;
  readonly nodesFailed: number;
  readonly nodesTotal: number;
  readonly durationMs: number;
}

/** @param now the server's clock, for an execution that has not ended. Milliseconds. */
export function summaryOf(record: ExecutionRecord, now: number): ExecutionSummary {
  const endedAt = record.stoppedAt ?? record.completedAt ?? now;
  return {
    nodesCompleted: record.nodes.completed,
    nodesFailed: record.nodes.failed,
    nodesTotal: record.nodes.total,
    durationMs: endedAt - (record.startedAt ?? record.createdAt),
  };
}

/** The answer to a deletion (docs/http-api.md#delete-apiexecutionsid). */
export interface DeletedExecution {
  readonly executionId: ExecutionId;
  /** The state in which it had ended. */
  readonly state: ExecutionState;
}

/** The answer to a stop (docs/http-api.md#post-apiexecutionsidstop). */
export interface StopResponse {
  readonly status: ExecutionState;
  readonly executionId: ExecutionId;
  readonly reason?: StopReason;
  readonly finalCostUsd: number;
  /** True when an agent's cost could not be collected to its end, or when an agent reported a part of it as an estimate. */
  readonly costEstimated: boolean;
  /** Tokens of language models; absent where no agent reported any. */
  readonly finalTokens?: number;
  readonly stoppedAt?: number;
  readonly summary: ExecutionSummary;
  readonly receipt?: Receipt;
}
