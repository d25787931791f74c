import {
  CONFIRMED_OUTCOMES,
  ORDER_MACHINE,
  type AgentRecord,
  type Latch,
  type Order,
  type OrderState,
  type Receipt,
  type ScopeWarning,
  type TargetOutcome,
  type TargetReceipt,
} from '#libs/contracts';
import { parseStored } from '#libs/valkey';
import { gradeOfAll } from './target-outcome';

/** The stored parts of a receipt. */
export interface StoredReceipt {
  /** The key of the order's record. */
  readonly key: string;
  readonly order: Order;
  readonly fields: Readonly<Record<string, string>>;
  readonly targets: readonly TargetReceipt[];
  readonly executions: readonly string[];
  readonly latch: Latch | undefined;
}

/** The receipt that is made of those parts. */
export function receiptOf({ key, order, fields, targets, executions, latch }: StoredReceipt): Receipt {
  const state = fields['state'] as OrderState;
  const { closedAt, closedBy, closeNote, digest, replicated, warning } = fields;
  const at = (name: string) => (fields[name] === undefined ? {} : { [name]: Number(fields[name]) });
  return {
    orderId: order.id,
    order,
    state,
    complete: ORDER_MACHINE.ended.includes(state),
    ...at('resolvedAt'),
    ...at('completedAt'),
    ...(replicated === undefined ? {} : { replicated: replicated === '1' }),
    ...(executions.length === 0 ? {} : { executions: executions.toSorted() }),
    ...(warning === undefined ? {} : { warning: parseStored<ScopeWarning>(key, warning, 'warning') }),
    ...(latch === undefined ? {} : { latch }),
    ...(closedAt === undefined
      ? {}
      : { closed: { at: Number(closedAt), by: closedBy ?? '', note: closeNote ?? '' } }),
    ...(digest === undefined ? {} : { digest }),
    totals: totalsOf(targets),
    targets,
    ...gradeOfAll(targets),
    missing: targets
      .filter((t) => !CONFIRMED_OUTCOMES.includes(t.outcome))
      .map(({ agentId, workerId }) => ({ agentId, workerId })),
  };
}

function totalsOf(targets: readonly TargetReceipt[]): Receipt['totals'] {
  const count = (outcome: TargetOutcome): number => targets.filter((t) => t.outcome === outcome).length;
  return {
    total: targets.length,
    killed: count('killed'),
    frozen: count('frozen'),
    thawed: count('thawed'),
    alreadyEnded: count('already-ended'),
    failed: count('failed'),
    unconfirmed: count('unconfirmed'),
    pending: count('pending'),
  };
}

/** A target made from an agent's record. */
export function targetOf(agent: AgentRecord, outcome: TargetOutcome, detail?: string): TargetReceipt {
  return {
    agentId: agent.id,
    executionId: agent.executionId,
    nodeId: agent.nodeId,
    workerId: agent.owner,
    outcome,
    ...(detail === undefined ? {} : { detail }),
    ...(agent.report === undefined ? {} : { report: agent.report }),
  };
}
