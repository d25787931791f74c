import type { Violation } from './check';
import { TOLERANCE } from './check-lives';
import type { History, HoldFacts, Line } from './history';

/** What a freeze answered to have seen still says nothing until somebody lets it go on, or ends it. */
export function checkHolds(history: History): Violation[] {
  return history.holds.flatMap((hold) =>
    hold.agentIds.flatMap((agentId): Violation[] => {
      const until = Math.min(hold.until, endOf(history, hold, agentId));
      const moved = history.lines.find((line) => isIn(line, agentId, hold.from + TOLERANCE, until));
      if (moved === undefined) return [];
      const after = (moved.at - hold.from).toFixed(2);
      return [
        {
          rule: 'held',
          what: `${hold.name}: ${agentId} (pid ${moved.pid}) went on ${after} s after the answer`,
        },
      ];
    }),
  );
}

/** When the agent's tree may have been woken to be ended: by an order, by its worker's fence, or with its execution. */
function endOf(
  { executions, orders, faults, lines, wallOffset }: History,
  hold: HoldFacts,
  agentId: string,
): number {
  const execution = executions.find(({ agents }) => agents.some(({ id }) => id === agentId));
  const owner = execution?.agents.find(({ id }) => id === agentId)?.owner;
  const ends = execution?.events.filter(({ to, entity, agentId: id }) =>
    entity === 'execution' ? to === 'stopping' : id === agentId && ['failed', 'killed'].includes(to ?? ''),
  );
  return Math.min(
    ...(ends ?? []).map(({ atMs }) => atMs / 1_000 - wallOffset - TOLERANCE),
    // Whoever is asked to die is woken first, and an order may be under way already when the freeze is answered.
    ...orders
      .filter((order) => (order.releasedAt ?? order.answeredAt ?? hold.until) > hold.from)
      .map(({ askedAt }) => askedAt),
    // Its first process was through: what it had left was being ended when the freeze came.
    ...lines.filter((line) => line.agentId === agentId && line.word === 'end').map(({ at }) => at),
    // A fault may have begun before and end the tree now.
    ...faults.filter(({ workerId }) => workerId === undefined || workerId === owner).map(() => 0),
  );
}

function isIn({ agentId: who, at }: Line, agentId: string, from: number, until: number): boolean {
  return who === agentId && at > from && at < until;
}
