import type { KillPlan } from '#libs/client';
import type { Scope } from '#libs/contracts';
import { describeScope } from '../receipt/describe-scope';
import { cleanText } from '../text/clean-text';
import { count } from '../text/format';

const PLAN_SHOWN = 50;

/** The words for an act in its plan. */
export interface PlannedAct {
  /** `killing`, `freezing`. */
  readonly doing: string;
  /** The verb for whole executions: `stop`, `pause`. */
  readonly executions: string;
  /** `nothing was killed: this was a dry run` */
  readonly done: string;
  /** A line on whether a latch or a freeze would be engaged. */
  readonly latch: string;
  /** Lines on the consequences of losing agents for their executions. */
  readonly consequences?: readonly string[];
}

/** The targets of a planned act, for people. */
export function renderPlan(plan: KillPlan, scope: Scope, act: PlannedAct): string[] {
  const workers = new Set(plan.targets.map(({ workerId }) => workerId)).size;
  const lines = plan.targets
    .slice(0, PLAN_SHOWN)
    .map(({ agentId, nodeId, workerId }) => `  ${cleanText(nodeId)}  ${agentId} on ${workerId}`);
  const rest = plan.targets.length - lines.length;
  if (rest > 0) lines.push(`  … and ${rest} more (--json has all)`);
  const where = `${count(plan.targets.length, 'agent')} on ${count(workers, 'worker')}`;
  // A pool or a worker covers no execution as a whole.
  const whole =
    plan.executions.length === 0
      ? ''
      : ` and ${act.executions} ${count(plan.executions.length, 'execution')}`;
  return [
    `${act.doing} ${describeScope(scope)} would hit ${where}${whole}`,
    ...lines,
    ...(act.consequences ?? []),
    act.latch,
    `${act.done}: this was a dry run`,
  ];
}

/** `12 agents of 3 executions`: those that are covered as a whole and those that lose agents. */
export function sizeOfPlan(plan: KillPlan): string {
  const executions = new Set([...plan.executions, ...plan.targets.map(({ executionId }) => executionId)]);
  return `${count(plan.targets.length, 'agent')} of ${count(executions.size, 'execution')}`;
}
