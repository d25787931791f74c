import type { Violation } from './check';
import { groupBy, isServerStepped, TOLERANCE } from './check-lives';
import {
  mayHaveLostClaim,
  type FaultFacts,
  type History,
  type Line,
  type OrderFacts,
  type ReceiptFacts,
} from './history';

const CONFIRMED_DEAD = ['killed', 'already-ended'];
const OPEN = ['pending', 'unconfirmed', 'failed'];

/** The facts of an agent that an order may name. */
export interface Where {
  readonly executionId: string;
  readonly team: string;
  readonly workerId: string;
  readonly pool: string | undefined;
  readonly role: string | undefined;
}

/**
 * From the answer to a kill until the release of its latch, nothing in its scope is claimed, and no process in it writes,
 * except those that the answer itself names as not confirmed.
 */
export function checkKills(history: History): Violation[] {
  const where = whereabouts(history.executions);
  return history.orders.flatMap((order): Violation[] => {
    const { answeredAt: from, releasedAt: until = Number.POSITIVE_INFINITY } = order;
    if (from === undefined) return [];
    const isIn = (agentId: string, at: number): boolean =>
      at > from + TOLERANCE && at < until - TOLERANCE && coversAgent(order, agentId, where.get(agentId));
    const open = order.receipt?.targets.filter(({ outcome }) => OPEN.includes(outcome)) ?? [];
    const heard = history.lines.filter(
      ({ agentId, at }) => isIn(agentId, at) && open.every((target) => target.agentId !== agentId),
    );
    const first = [...groupBy(order.startsOnly ? [] : heard, ({ agentId }) => agentId).values()].flatMap(
      ([line]) => line ?? [],
    );
    const name = `${order.name} ${JSON.stringify(order.covers)}`;
    const fail = (what: string, at: number): Violation => ({
      rule: 'obeyed',
      what: `${name}: ${what} ${(at - from).toFixed(2)} s after the answer`,
    });
    return [
      ...stoppedTooSoon(order),
      ...(order.local === true || isServerStepped(history) ? [] : claims(history))
        .filter(({ agentId, at }) => isIn(agentId, at) && !isLostWithClaim(order, agentId, history))
        .map(({ agentId, at }) => fail(`${agentId} was claimed`, at)),
      ...first.map(({ agentId, pid, word, at }) => fail(`${agentId} (pid ${pid}): ${word}`, at)),
    ];
  });
}

/**
 * A freeze of one agent is stored in its record, not as a latch. A failover that loses the claim loses the freeze with it, and
 * the attempt is claimed and runs anew (docs/deployment.md, "Ends and claims").
 */
export function isLostWithClaim(
  { covers: { what }, startsOnly }: OrderFacts,
  agentId: string,
  { lines, lossWindows }: History,
): boolean {
  if (what !== 'agent' || startsOnly !== true) return false;
  const mine = lines.filter((line) => line.agentId === agentId);
  return mayHaveLostClaim(mine, lossWindows);
}

function claims({ executions, wallOffset }: History): { agentId: string; at: number }[] {
  return executions
    .flatMap(({ events }) => events)
    .filter(({ entity, to }) => entity === 'agent' && to === 'spawning')
    .map(({ agentId = '', atMs }) => ({ agentId, at: atMs / 1_000 - wallOffset }));
}

/** The answer to a stop may be the receipt of a wider order: only the execution's own targets count. */
function stoppedTooSoon({ name, status, covers: scope, receipt }: OrderFacts): Violation[] {
  if (status !== 'stopped' || scope.what !== 'execution') return [];
  const mine = `agt_${scope.executionId.slice('exe_'.length)}-`;
  const open = receipt?.targets.filter(
    ({ agentId, outcome }) => agentId.startsWith(mine) && OPEN.includes(outcome),
  );
  return (open ?? []).map(({ agentId, outcome }) => ({
    rule: 'receipt',
    what: `${name} answered stopped while ${agentId} was ${outcome}`,
  }));
}

/** By its record and its plan. */
export function whereabouts(executions: History['executions']): ReadonlyMap<string, Where> {
  return new Map(
    executions.flatMap(({ id, team, agents, nodes }) => {
      const byId = new Map(nodes.map((node) => [node.id, node]));
      return agents.map((agent): [string, Where] => {
        const { pool, role } = byId.get(agent.nodeId ?? '') ?? {};
        return [agent.id, { executionId: id, team, workerId: agent.owner, pool, role }];
      });
    }),
  );
}

export function coversAgent(
  { covers: scope }: OrderFacts,
  agentId: string,
  agent: Where | undefined,
): boolean {
  switch (scope.what) {
    case 'nothing':
      return false;
    case 'pool':
      return agent?.pool === scope.pool;
    case 'role':
      return agent?.role === scope.role;
    case 'all':
      return true;
    case 'team':
      return agent?.team === scope.team;
    case 'worker':
      return agent?.workerId === scope.workerId;
    case 'execution':
      return agent?.executionId === scope.executionId;
    case 'agent':
      return agentId === scope.agentId;
  }
}

/** Whether a fault may have cost the worker its lease or its report. The death of an orchestrator may do so to every worker. */
const touches = ({ workerId }: FaultFacts, who: string): boolean =>
  workerId === undefined || workerId === who || !workerId.startsWith('wrk_');

/** No confirmed target has a survivor. A fault explains an unconfirmed one, and only until the fault is healed. */
export function checkReceipts(history: History): Violation[] {
  const answered = history.orders.flatMap(({ receipt, answeredAt }) =>
    receipt === undefined || answeredAt === undefined ? [] : [{ receipt, at: answeredAt }],
  );
  const alive = new Map(history.aliveAtEnd.map((text) => text.split(' ').toReversed() as [string, string]));
  const lines = groupBy(history.lines, ({ agentId }) => agentId);
  return [
    ...answered.flatMap(({ receipt, at }) => [
      ...deadAfter(receipt, at, lines),
      ...unexplained(receipt, 'in the answer, and no fault explains it', (workerId) =>
        history.faults.some((fault) => fault.at < at && touches(fault, workerId)),
      ),
    ]),
    ...history.receipts.flatMap((receipt) => [
      ...survivors(receipt, alive),
      ...unexplained(receipt, 'although everything was healed', () => false),
    ]),
  ];
}

function deadAfter(
  receipt: ReceiptFacts,
  at: number,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  return dead(receipt).flatMap(({ agentId, outcome }): Violation[] => {
    const line = byAgent.get(agentId)?.find((one) => one.at > at + TOLERANCE);
    if (line === undefined) return [];
    const what = `${receipt.orderId} called ${agentId} ${outcome}, and pid ${line.pid} wrote ${(line.at - at).toFixed(2)} s later`;
    return [{ rule: 'receipt', what }];
  });
}

function survivors(receipt: ReceiptFacts, alive: ReadonlyMap<string, string>): Violation[] {
  return dead(receipt).flatMap(({ agentId, outcome, survivors: named }): Violation[] => {
    const pid = alive.get(agentId);
    if (pid === undefined && named === 0) return [];
    const who = pid ?? `${named} processes, by its own report`;
    return [{ rule: 'receipt', what: `${receipt.orderId} calls ${agentId} ${outcome}, and alive: ${who}` }];
  });
}

const dead = ({ kind, targets }: ReceiptFacts) =>
  kind === 'kill' ? targets.filter(({ outcome }) => CONFIRMED_DEAD.includes(outcome)) : [];

/** In an answer only a fault explains an unconfirmed target; at the end, with everything healed, nothing does. */
function unexplained(
  { orderId, kind, targets }: ReceiptFacts,
  when: string,
  isExplained: (workerId: string) => boolean,
): Violation[] {
  if (kind !== 'kill') return [];
  return targets
    .filter(({ outcome, workerId }) => !CONFIRMED_DEAD.includes(outcome) && !isExplained(workerId))
    .map(({ agentId, outcome }) => ({
      rule: 'receipt',
      what: `${orderId}: ${agentId} is ${outcome} ${when}`,
    }));
}
