import {
  BelayError,
  gradeOf,
  lowestGrade,
  type AgentRecord,
  type Grade,
  type Order,
  type StopReport,
  type TargetReceipt,
} from '#libs/contracts';

/** The outcome of a target that its thaw reached before the freeze did. */
export const NEVER_HELD = 'it was thawed before it was frozen';

/** Outcomes that say that a tree is dead. */
const DEAD: readonly TargetReceipt['outcome'][] = ['killed', 'already-ended'];
const BY_MARKS = 'it was seen dead by marks only, which an agent can strip; BELAY_PROOF asks for the kernel';

/** The target as it counts when proofs below `least` count as none. */
export function countedAs(target: TargetReceipt, least: Grade): TargetReceipt {
  if (least === 'marks' || !DEAD.includes(target.outcome)) return target;
  if (target.report === undefined || gradeOf(target.report) !== 'marks') return target;
  return { ...target, outcome: 'unconfirmed', detail: BY_MARKS };
}

/** Adds the grade of the target's proof, if there is a report. */
export function withGrade(target: TargetReceipt): TargetReceipt {
  const grade = target.report === undefined ? undefined : gradeOf(target.report);
  return grade === undefined ? target : { ...target, grade };
}

/** The lowest grade of the proofs of a receipt. */
export function gradeOfAll(targets: readonly TargetReceipt[]): { readonly grade?: Grade } {
  const grade = lowestGrade(targets.flatMap((target) => target.grade ?? []));
  return grade === undefined ? {} : { grade };
}

/** The parts of an attempt's end that decide its outcome. */
export interface KnownEnd {
  readonly state?: AgentRecord['state'];
  readonly reason?: AgentRecord['reason'];
  readonly report?: StopReport | undefined;
}

/**
 * The only rule for the outcome of an ended target. Receipts, workers' reports and `belay kill --local` use it. Only a report
 * that proves the death confirms it (docs/killswitch.md#meaning-of-the-answer). An attempt that ended because its worker lost
 * contact did not end by itself: it counts as `killed`, although no order killed it.
 */
export function outcomeOfEnd(
  end: KnownEnd,
  workerId: string,
): Pick<TargetReceipt, 'detail'> & { readonly outcome: 'killed' | 'already-ended' | 'unconfirmed' } {
  const isLost = end.reason === 'worker_lost';
  if (end.report?.proved !== true)
    return {
      outcome: 'unconfirmed',
      detail: isLost
        ? `worker ${workerId} was lost; a lease that ran out is no proof`
        : `worker ${workerId} ended it without evidence that its processes are dead`,
    };
  if (end.state === 'killed') return { outcome: 'killed' };
  if (!isLost) return { outcome: 'already-ended' };
  return {
    outcome: 'killed',
    detail: `not by this order: it ended when worker ${workerId} had lost contact`,
  };
}

/** The outcome that an agent's record means for an order that covers it. */
export function outcomeFor(
  { id, kind }: Pick<Order, 'id' | 'kind'>,
  agent: Pick<AgentRecord, 'state' | 'reason' | 'frozen' | 'frozenBy' | 'owner'> & { report?: StopReport },
): Pick<TargetReceipt, 'outcome' | 'detail'> {
  switch (agent.state) {
    case 'killed':
    case 'completed':
    case 'failed':
      return outcomeOfEnd(agent, agent.owner);
    case 'spawning':
    case 'running':
      // A freeze by another order may end at any time.
      if (kind === 'freeze' && agent.frozenBy?.includes(id) === true) return { outcome: 'frozen' };
      return { outcome: kind === 'thaw' && agent.frozen !== true ? 'thawed' : 'pending' };
    default:
      throw new BelayError('INTERNAL', `No outcome for agent state ${String(agent.state)}.`);
  }
}
