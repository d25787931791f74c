import {
  BelayError,
  gradeOf,
  lowestGrade,
  type AgentRecord,
  type Grade,
  type Order,
  type StopReport,
  type TargetOutcome,
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

/**
 * The outcome that an agent's record means for an order that covers it: only evidence makes it `killed`
 * (docs/proof-of-stop.md).
 */
export function outcomeFor(
  { id, kind }: Pick<Order, 'id' | 'kind'>,
  agent: Pick<AgentRecord, 'state' | 'reason' | 'frozen' | 'frozenBy'> & { report?: StopReport },
): TargetOutcome {
  switch (agent.state) {
    case 'killed':
      return agent.report?.proved === true ? 'killed' : 'unconfirmed';
    case 'completed':
      return 'already-ended';
    case 'failed':
      if (agent.reason !== 'worker_lost') return 'already-ended';
      return agent.report?.proved === true ? 'killed' : 'unconfirmed';
    case 'spawning':
    case 'running':
      // A freeze by another order may end at any time.
      if (kind === 'freeze' && agent.frozenBy?.includes(id) === true) return 'frozen';
      return kind === 'thaw' && agent.frozen !== true ? 'thawed' : 'pending';
    default:
      throw new BelayError('INTERNAL', `No outcome for agent state ${String(agent.state)}.`);
  }
}
