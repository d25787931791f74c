import type { Violation } from './check';
import {
  identity,
  leavesTrees,
  mayHaveLostClaim,
  type AgentFacts,
  type FaultFacts,
  type History,
  type Line,
  type LossWindow,
} from './history';

/** /proc/uptime has steps of 10 ms, and a time is read a moment before or after its event. Seconds. */
export const TOLERANCE = 0.03;
const PROVED_ENDS = ['completed', 'failed', 'killed'];

/** One attempt: when its processes began and when the last of them wrote. */
interface Life {
  readonly agentId: string;
  readonly from: number;
  readonly last: Line;
  /** The worker that started it, by its own record. */
  readonly workerId: string | undefined;
}

/** One live copy of an attempt, one live attempt of a node, and no process writes after its end was recorded. */
export function checkLives(history: History): Violation[] {
  const agents = new Map(history.executions.flatMap((one) => one.agents.map((agent) => [agent.id, agent])));
  const byAgent = groupBy(history.lines, ({ agentId }) => agentId);
  return [
    ...[...byAgent].flatMap(([agentId, lines]) => twice(agentId, lines, history.lossWindows)),
    ...overlaps(history, agents, byAgent),
    ...(isServerStepped(history) ? [] : [...afterEnds(history, byAgent), ...afterStops(history, byAgent)]),
  ];
}

/** The clock of these events is no other process's, so rules that rest on them cannot be checked. */
export const isServerStepped = ({ faults }: History): boolean =>
  faults.some(({ kind }) => kind === 'server-clock-step');

/** A claim that a failover lost is granted again: until its worker has noticed, the attempt may run twice. */
function twice(agentId: string, lines: readonly Line[], windows: readonly LossWindow[]): Violation[] {
  const mains = new Set(lines.filter(({ role }) => role === 'main').map(identity));
  if (mains.size < 2) return [];
  if (mains.size === 2 && mayHaveLostClaim(lines, windows)) return [];
  return [{ rule: 'one-copy', what: `${agentId} was started ${mains.size} times: ${[...mains].join(', ')}` }];
}

function overlaps(
  { faults }: History,
  agents: ReadonlyMap<string, AgentFacts>,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  const lives = [...byAgent].map(([agentId, lines]): Life => {
    const { workerId } = lines.find(({ role }) => role === 'main') ?? {};
    return { agentId, workerId: agents.get(agentId)?.owner ?? workerId, ...span(lines) };
  });
  return [...groupBy(lives, ({ agentId }) => nodeOf(agentId)).values()].flatMap((attempts) => {
    const sorted = attempts.toSorted((a, b) => a.from - b.from);
    return sorted.slice(1).flatMap((life, i): Violation[] =>
      sorted.slice(0, i + 1).flatMap((earlier): Violation[] => {
        const over = earlier.last.at - life.from;
        if (over <= TOLERANCE || isAllowedToLinger(earlier, faults)) return [];
        const what = `${earlier.agentId} (pid ${earlier.last.pid}) was alive ${over.toFixed(2)} s after ${life.agentId} had started`;
        return [{ rule: 'one-copy', what }];
      }),
    );
  });
}

/** When worker and guardian die at once, their agents may live until another worker has reaped them, and no longer. */
function isAllowedToLinger({ workerId, last }: Life, faults: readonly FaultFacts[]): boolean {
  const fault = faults.find((one) => leavesTrees(one.kind) && one.workerId === workerId);
  return fault !== undefined && last.at <= (fault.reapedAt ?? Number.POSITIVE_INFINITY) + TOLERANCE;
}

/** The end of an attempt is stored once its tree was seen dead, except when it was lost with its worker. */
function afterEnds(
  { executions, wallOffset }: History,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  return executions.flatMap(({ events }) =>
    events.flatMap(({ entity, to = '', agentId = '', reason, atMs, type }): Violation[] => {
      if (entity !== 'agent' || !PROVED_ENDS.includes(to) || reason === 'worker_lost') return [];
      return late(byAgent.get(agentId) ?? [], atMs / 1_000 - wallOffset, `its ${type}`);
    }),
  );
}

/** `stopped` and nothing less: every agent was proved dead before. */
function afterStops(
  { executions, wallOffset }: History,
  byAgent: ReadonlyMap<string, readonly Line[]>,
): Violation[] {
  return executions.flatMap(({ events, agents }) => {
    const claimed = new Map(
      events.flatMap(({ entity, agentId = '', to, seq }) =>
        entity === 'agent' && to === 'spawning' ? [[agentId, seq] as const] : [],
      ),
    );
    // A retried execution has several: each is the end of the attempts claimed until then.
    const ends = events.filter(({ entity, to }) => entity === 'execution' && to === 'stopped');
    return ends.flatMap(({ seq, atMs }) =>
      agents
        .filter(({ id }) => (claimed.get(id) ?? 0) < seq)
        .flatMap(({ id }) =>
          late(byAgent.get(id) ?? [], atMs / 1_000 - wallOffset, 'its execution was stopped'),
        ),
    );
  });
}

function late(lines: readonly Line[], at: number, what: string): Violation[] {
  if (lines.length === 0) return [];
  const { last } = span(lines);
  const over = last.at - at;
  if (over <= TOLERANCE) return [];
  return [
    {
      rule: 'proved-dead',
      what: `${last.agentId} (pid ${last.pid}) wrote ${over.toFixed(2)} s after ${what}`,
    },
  ];
}

export function span(lines: readonly Line[]): { from: number; last: Line } {
  return {
    from: Math.min(...lines.map(({ at }) => at)),
    last: lines.reduce((latest, line) => (line.at > latest.at ? line : latest)),
  };
}

/** `agt_EXECUTION-INDEX-ATTEMPT` without its attempt. */
const nodeOf = (agentId: string): string => agentId.slice(0, agentId.lastIndexOf('-'));

export function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return groups;
}
