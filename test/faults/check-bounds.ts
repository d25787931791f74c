import type { Violation } from './check';
import { groupBy, isServerStepped, span, TOLERANCE } from './check-lives';
import {
  leavesTrees,
  type AgentFacts,
  type EventFacts,
  type ExecutionFacts,
  type FaultFacts,
  type History,
  type Line,
} from './history';

/** Grace, SIGKILL and proof, on a busy machine. Seconds. */
const STOP_S = 2;
/** The janitor looks once a second, and an order follows. */
const NOTICED_S = 3;
/**
 * Hops between processes from a bound to its effect, such as janitor, order, worker, agent and proof. On a busy machine each of
 * them is late.
 */
const HOPS = 5;
const patience = ({ lateS }: History): number => HOPS * lateS;
/** A cost that was recorded and not yet reported. */
const ONE_COST = 0.01;
const MICRO = 1e-6;
/** Faults that may lose an agent's last messages, beside the one that ends the agent. */
const LOSES_WORDS = /^(worker-|guardian-|server-)/;

/** Deadlines, budgets and pools: each is kept, and no execution is ended by one that it does not have. */
export function checkBounds(history: History): Violation[] {
  const lines = groupBy(history.lines, ({ agentId }) => agentId);
  const pools = new Map(history.workers.map((worker) => [worker.id, worker.pools]));
  return history.executions.flatMap((execution) => [
    ...(isServerStepped(history)
      ? []
      : [...nodeTimeouts(execution, history, lines), ...deadline(execution, history)]),
    ...budget(execution, history, lines),
    ...costs(execution, history, lines),
    ...execution.agents.flatMap((agent) => wrongPool(execution, agent, pools)),
    ...lostToItsClock(execution, history),
  ]);
}

const bound = (what: string): Violation => ({ rule: 'bound', what });
const at = ({ atMs }: EventFacts): number => atMs / 1_000;
const isOf =
  (agentId: string, to: string) =>
  ({ entity, agentId: id, to: into, from }: EventFacts): boolean =>
    entity === 'agent' && id === agentId && into === to && from !== into;

function nodeTimeouts(
  { events, agents, nodes }: ExecutionFacts,
  history: History,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  const { faults } = history;
  const limits = new Map(nodes.map(({ id, timeoutMs }) => [id, timeoutMs]));
  return agents.flatMap(({ id, nodeId = '', owner }): Violation[] => {
    const limit = (limits.get(nodeId) ?? Number.POSITIVE_INFINITY) / 1_000;
    const claimed = events.find(isOf(id, 'spawning'));
    const failed = events.find(isOf(id, 'failed'));
    if (failed?.reason === 'timeout' && claimed !== undefined && at(failed) - at(claimed) < limit - TOLERANCE)
      return [
        bound(`${id} was ended by a timeout ${(at(failed) - at(claimed)).toFixed(2)} s after its claim`),
      ];
    const lines = byAgent.get(id) ?? [];
    // A frozen agent's time stands still, and a suspended worker counts none.
    const excused = events.some(({ type, agentId }) => type === 'agent.frozen' && agentId === id);
    if (lines.length === 0 || excused || faults.some((fault) => keepsAlive(fault, owner))) return [];
    const { from, last } = span(lines);
    if (last.at - from <= limit + STOP_S + patience(history)) return [];
    return [bound(`${id} ran ${(last.at - from).toFixed(2)} s, with a timeout of ${limit.toFixed(2)} s`)];
  });
}

/** The worker was suspended, or its agents ran without worker and guardian until they were reaped. */
const keepsAlive = ({ kind, workerId }: FaultFacts, owner: string): boolean =>
  workerId === owner && (kind.startsWith('worker-sigstop') || leavesTrees(kind));

function deadline(execution: ExecutionFacts, history: History): Violation[] {
  const { faults } = history;
  const { id, name, events, timeoutMs, reason, state } = execution;
  // A drill has a pool of its own, and no plan.
  if (name === 'drill') return [];
  const moves = events.filter(({ entity, from, to }) => entity === 'execution' && from !== to);
  const limit = (timeoutMs ?? Number.POSITIVE_INFINITY) / 1_000;
  const violations: Violation[] = [];
  if (reason === 'timeout' && state !== 'stopped' && state !== 'failed')
    violations.push(bound(`${id} passed its deadline and is ${state}`));
  // A janitor that is dead, or has no server, is late; how late depends on the next holder of its lock.
  const excused = faults.some(({ workerId }) => workerId === undefined || !workerId.startsWith('wrk_'));
  let ran = 0;
  for (const [i, move] of moves.entries()) {
    const next = moves[i + 1];
    if (move.to === 'running' && ['idle', 'stopped', 'failed'].includes(move.from ?? '')) ran = 0;
    if (move.to !== 'running' || next === undefined) continue;
    ran += at(next) - at(move);
    const when = `${ran.toFixed(2)} s of running`;
    if (next.reason === 'timeout' && ran < limit - TOLERANCE)
      violations.push(bound(`${id} was ended by a deadline after ${when}, and has ${limit}`));
    if (!excused && ran > limit + NOTICED_S + patience(history))
      violations.push(bound(`${id} went on to ${when}, with a deadline of ${limit} s`));
  }
  return violations;
}

function budget(
  { id, events, reason, state, costUsd = 0, maxCostUsd, agents }: ExecutionFacts,
  history: History,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  const { faults, retried } = history;
  const limit = maxCostUsd ?? Number.POSITIVE_INFINITY;
  if (reason === 'budget_exceeded' && costUsd <= limit + MICRO)
    return [bound(`${id} was ended by its budget of ${limit} after ${costUsd}`)];
  // A retried execution may complete with nodes that cost nothing more.
  if (state === 'completed' && costUsd > limit + MICRO && !retried.includes(id))
    return [bound(`${id} completed with ${costUsd} spent of ${limit}`)];
  const spends = agents
    .flatMap((agent) => byAgent.get(agent.id) ?? [])
    .filter(({ word }) => word === 'cost')
    .toSorted((a, b) => a.at - b.at);
  let sum = 0;
  const over = spends.find(({ usd = 0 }) => (sum += usd) > limit + MICRO);
  const last = spends.at(-1);
  if (over === undefined || last === undefined || faults.length > 0 || retried.includes(id)) return [];
  const isHeld = events.some(({ type }) => type === 'execution.paused' || type === 'agent.frozen');
  if (isHeld || last.at - over.at <= NOTICED_S + patience(history)) return [];
  return [bound(`${id} spent on for ${(last.at - over.at).toFixed(2)} s after its budget of ${limit}`)];
}

/** Spent money stays counted: by each agent's own record, and by their sum. */
function costs(
  { id, agents, costUsd = 0, state }: ExecutionFacts,
  { faults }: History,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  if (state === undefined) return [];
  const sum = agents.reduce((total, agent) => total + (agent.costUsd ?? 0), 0);
  if (Math.abs(sum - costUsd) > MICRO)
    return [bound(`${id} cost ${costUsd}, and its agents ${sum.toFixed(6)} together`)];
  return agents.flatMap((agent): Violation[] => {
    const said = (byAgent.get(agent.id) ?? []).reduce((total, { usd = 0 }) => total + usd, 0);
    const stored = agent.costUsd ?? 0;
    if (stored > said + MICRO) return [bound(`${agent.id} cost ${stored}, and spent ${said.toFixed(2)}`)];
    const lost = faults.some(
      ({ kind, workerId }) => LOSES_WORDS.test(kind) && (workerId ?? agent.owner) === agent.owner,
    );
    if (lost || agent.reason === 'worker_lost' || said - stored < ONE_COST + MICRO) return [];
    return [bound(`${agent.id} spent ${said.toFixed(2)}, and ${stored} of it is stored`)];
  });
}

function wrongPool(
  { nodes }: ExecutionFacts,
  { id, nodeId, owner }: AgentFacts,
  pools: ReadonlyMap<string, readonly string[]>,
): Violation[] {
  const pool = nodes.find((node) => node.id === nodeId)?.pool;
  const taken = pools.get(owner);
  if (pool === undefined || taken === undefined || taken.includes(pool)) return [];
  return [bound(`${id} of the pool ${pool} was claimed by ${owner}, which takes ${taken.join(' and ')}`)];
}

/** Decisions use the server's clock or a monotonic one, so a worker whose wall clock is stepped keeps its agents. */
function lostToItsClock(
  { events, agents }: ExecutionFacts,
  { faults, drains, stepped }: History,
): Violation[] {
  const owners = new Map(agents.map(({ id, owner }) => [id, owner]));
  return events.flatMap(({ entity, agentId = '', reason, to }): Violation[] => {
    const owner = owners.get(agentId) ?? '';
    if (entity !== 'agent' || to !== 'failed' || reason !== 'worker_lost' || !stepped.includes(owner))
      return [];
    const isExplained =
      faults.some(({ workerId = owner }) => workerId === owner) ||
      drains.some(({ id, last }) => id === owner && last === undefined);
    return isExplained ? [] : [bound(`${agentId} was lost with ${owner}, and only its clock was stepped`)];
  });
}
