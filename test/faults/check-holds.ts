import type { Violation } from './check';
import { coversAgent, isLostWithClaim, whereabouts } from './check-kills';
import { groupBy, TOLERANCE } from './check-lives';
import { leavesTrees, type History, type HoldFacts, type Line, type OrderFacts } from './history';

/** A tree that is ended is woken first: its grace and its end are over by then. Seconds. */
const ENDED_S = 2;

/** A process that a freeze reported stopped writes nothing until it is resumed, or ended. */
export function checkHolds(history: History): Violation[] {
  const lines = groupBy(history.lines, ({ agentId }) => agentId);
  return history.holds.flatMap((hold) =>
    hold.agentIds.flatMap((agentId): Violation[] => {
      const mine = lines.get(agentId) ?? [];
      const until = Math.min(hold.until, letGoAt(history, hold, agentId));
      const moved = mine
        .filter(({ at }) => at > hold.from + TOLERANCE && at < until)
        .toSorted((a, b) => a.at - b.at);
      const [first] = moved;
      if (first === undefined || wasEnded(first, mine, history)) return [];
      const order = history.orders.find(({ askedAt }) => askedAt === hold.askedAt);
      if (order !== undefined && isLostWithClaim(order, agentId, history)) return [];
      const after = (first.at - hold.from).toFixed(2);
      return [
        {
          rule: 'held',
          what: `${hold.name}: ${agentId} (pid ${first.pid}) went on ${after} s after the answer`,
        },
      ];
    }),
  );
}

/** The time from which another act may have resumed it, or had begun to end it. */
function letGoAt({ orders, executions, lines }: History, hold: HoldFacts, agentId: string): number {
  const where = whereabouts(executions).get(agentId);
  const others = orders.filter(
    (order) => order.askedAt !== hold.askedAt && coversAgent(order, agentId, where),
  );
  return Math.min(
    Number.POSITIVE_INFINITY,
    ...others.flatMap((order) => endsHold(order, hold)),
    // Its first process had ended: the rest of the tree was being ended when the freeze came.
    ...lines.filter((line) => line.agentId === agentId && line.word === 'end').map(({ at }) => at),
  );
}

/** An order to end it wakes it; another freeze of it, or a pause, wakes it with its own end. */
function endsHold({ askedAt, releasedAt, startsOnly, covers }: OrderFacts, { from }: HoldFacts): number[] {
  if (covers.what === 'nothing') return [];
  if (startsOnly !== true) return (releasedAt ?? Number.POSITIVE_INFINITY) > from ? [askedAt] : [];
  return releasedAt === undefined || releasedAt < from - ENDED_S ? [] : [releasedAt];
}

/**
 * A process is woken before it is asked to die. It did not go on for long after the request (by a fence, a drain, a bound, its
 * execution's end), and did not reach an end of its own.
 */
function wasEnded(first: Line, mine: readonly Line[], { executions, faults }: History): boolean {
  const [agent] = executions.flatMap(({ agents }) => agents.filter(({ id }) => id === first.agentId));
  if (agent === undefined || ['completed', 'running'].includes(agent.state) || agent.reason === 'error')
    return false;
  const mayBeReaped = faults.some(({ kind, workerId }) => leavesTrees(kind) && workerId === agent.owner);
  return mayBeReaped || mine.every(({ at }) => at < first.at + ENDED_S);
}
