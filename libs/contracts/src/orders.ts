import type { AgentId, ExecutionId, OrderId, WorkerId } from './ids';
import type { StopReport } from './evidence';
import type { StopReason } from './records';
import type { ExecutionState, OrderState } from './states';

/** Whom an order is for. */
export type Scope =
  | { readonly type: 'all' }
  | { readonly type: 'worker'; readonly workerId: WorkerId }
  | { readonly type: 'execution'; readonly executionId: ExecutionId }
  | { readonly type: 'agent'; readonly agentId: AgentId };

/** `graceful`: stop signal, grace, SIGKILL. `immediate`: SIGKILL at once. */
export type StopMode = 'graceful' | 'immediate';

/** A durable command to workers. Written to the log before it is announced. */
export interface Order {
  readonly id: OrderId;
  /** Its id in the orders log; what a worker's cursor counts. Absent until it is placed. */
  readonly seq: string;
  readonly kind: 'kill';
  readonly scope: Scope;
  readonly mode: StopMode;
  /** Milliseconds; absent: each node's own. */
  readonly graceMs?: number;
  readonly reason: StopReason;
  /** A person's words. */
  readonly note?: string;
  /** Who asked. */
  readonly by: string;
  /** Valkey's clock. */
  readonly placedAt: number;
}

/**
 * What the doorbell carries: the order, at its second ring with the agents its resolved scope holds. A worker stops
 * those whatever their age; by scope alone `all` and `worker` reach only agents claimed before the order was placed.
 */
export interface Ring {
  readonly order: Order;
  readonly targets?: readonly AgentId[];
}

/** One string for a scope: what open orders are deduplicated by. */
export function scopeKey(scope: Scope): string {
  switch (scope.type) {
    case 'all':
      return 'all';
    case 'worker':
      return `worker/${scope.workerId}`;
    case 'execution':
      return `execution/${scope.executionId}`;
    case 'agent':
      return `agent/${scope.agentId}`;
  }
}

/** What an agent is matched by. */
export interface AgentAddress {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly workerId: WorkerId;
}

/** Whether an order of this scope is for that agent. */
export function scopeCovers(scope: Scope, agent: AgentAddress): boolean {
  switch (scope.type) {
    case 'all':
      return true;
    case 'worker':
      return scope.workerId === agent.workerId;
    case 'execution':
      return scope.executionId === agent.executionId;
    case 'agent':
      return scope.agentId === agent.agentId;
  }
}

/** `already-ended`: it had ended by itself before the order reached it. `unconfirmed`: no evidence, still tried. */
export type TargetOutcome = 'pending' | 'killed' | 'already-ended' | 'failed' | 'unconfirmed';

export interface TargetReceipt {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly workerId: WorkerId;
  readonly outcome: TargetOutcome;
  readonly detail?: string;
  readonly report?: StopReport;
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
  readonly totals: {
    readonly total: number;
    readonly killed: number;
    readonly alreadyEnded: number;
    readonly failed: number;
    readonly unconfirmed: number;
    readonly pending: number;
  };
  readonly targets: readonly TargetReceipt[];
  /** What is not confirmed yet, and where. Empty when complete. */
  readonly missing: readonly { readonly agentId: AgentId; readonly workerId: WorkerId }[];
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
  readonly summary: {
    readonly nodesCompleted: number;
    readonly nodesFailed: number;
    readonly nodesTotal: number;
    readonly durationMs: number;
  };
  readonly receipt?: Receipt;
}
