import { CONFIRMED_OUTCOMES, gradeOf, lowestGrade, type TargetReceipt } from '#libs/contracts';
import { describeScope } from '../receipt/describe-scope';
import { describeGrade, renderTotals } from '../receipt/render-receipt';
import { renderTargets } from '../receipt/render-targets';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count } from '../text/format';
import type { LocalKill, UnreachedWorker } from './kill-locally';

/** The receipts of this machine's workers as one, the workers that were not reached, and one line with the result. */
export function renderLocalKill(
  kill: LocalKill,
  style: Style,
  options: { readonly full?: boolean } = {},
): string[] {
  const targets = kill.workers.flatMap((worker) => worker.targets);
  return [
    `kill ${describeScope(kill.scope)} on this machine, without the server`,
    `asked by ${cleanText(kill.by)}`,
    ...renderTargets(targets, 'kill', style, options),
    renderTotals(totalsOf(targets)),
    ...kill.unreached.flatMap((worker) => renderUnreached(worker, style)),
    renderVerdict(kill, targets, style),
    ...renderHolding(kill),
  ];
}

function totalsOf(targets: readonly TargetReceipt[]): Parameters<typeof renderTotals>[0] {
  const of = (wanted: TargetReceipt['outcome']): number =>
    targets.filter(({ outcome }) => outcome === wanted).length;
  return {
    total: targets.length,
    killed: of('killed'),
    frozen: of('frozen'),
    thawed: of('thawed'),
    alreadyEnded: of('already-ended'),
    failed: of('failed'),
    unconfirmed: of('unconfirmed'),
    pending: of('pending'),
  };
}

function renderUnreached({ workerId, why, pid, agents }: UnreachedWorker, style: Style): string[] {
  const pids = agents.flatMap((agent) => agent.pids);
  const seen =
    agents.length === 0
      ? 'no process of its agents is seen; one that cleared its environment cannot be'
      : `${count(agents.length, 'agent')} of it may still run: pids ${pids.join(', ')}`;
  const advice =
    pid === undefined
      ? 'its guardian ends them, else the next worker that starts here: belay worker'
      : `when it dies its guardian ends them: kill -9 ${pid}`;
  return [
    `${style.bad('not reached')}   ${workerId}: ${cleanText(why)}`,
    ...[seen, `→ ${advice}`].map((line) => `${' '.repeat(14)}${line}`),
  ];
}

function renderVerdict(kill: LocalKill, targets: readonly TargetReceipt[], style: Style): string {
  const { complete, unreached, workers } = kill;
  // A worker's record is removed once the worker and its trees were seen dead.
  if (complete && workers.length === 0)
    return `${style.good('complete')}: no worker runs here, and earlier ones left no process`;
  if (complete) {
    const where = `on ${count(workers.length, 'worker')} of this machine`;
    const grades = targets.flatMap(({ report }) => (report && gradeOf(report)) ?? []);
    const confirmed = `every target is confirmed${describeGrade(lowestGrade(grades))}`;
    const what = targets.length === 0 ? 'nothing was running in scope' : confirmed;
    return `${style.good('complete')}: ${what}, ${where}`;
  }
  const open = targets.filter(({ outcome }) => !CONFIRMED_OUTCOMES.includes(outcome)).length;
  const parts = [
    ...(open === 0 ? [] : [`${count(open, 'target')} not confirmed`]),
    ...(unreached.length === 0 ? [] : [`${count(unreached.length, 'worker')} not reached`]),
  ];
  return `${style.bad('incomplete')}: ${parts.join(', ')}. It is safe to type it again`;
}

/** The latch that keeps new work from starting there, or that there is none. */
function renderHolding({ workers }: LocalKill): string[] {
  const holding = workers.filter((worker) => worker.holding).map(({ workerId }) => workerId);
  if (holding.length === 0)
    return workers.length === 0 ? [] : ['no latch is engaged: new agents may start in the scope'];
  const each =
    holding.length === 1 ? ['takes', 'it engages', 'it with'] : ['take', 'each engages', 'each with'];
  const [take, engages, release] = each;
  return [
    `${holding.join(', ')} ${take} no work; once the server answers ${engages} a latch for itself`,
    `look with: belay latches; release ${release}: belay release LATCH --note "why"`,
  ];
}
