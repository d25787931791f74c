import { CONFIRMED_OUTCOMES, type OrderKind, type TargetReceipt } from '#libs/contracts';
import type { Style } from '../session/style';
import { count } from '../text/format';
import { begunAfterMs, describeTarget } from './describe-target';

/** Above this many targets, only a summary, the slowest and the unconfirmed ones are shown. */
const COMPACT_ABOVE = 20;
const SLOWEST_SHOWN = 3;
const UNCONFIRMED_SHOWN = 50;

/** The targets, with the evidence of each end: all of them, or of many those that need attention. */
export function renderTargets(
  targets: readonly TargetReceipt[],
  kind: OrderKind,
  style: Style,
  { full }: { readonly full?: boolean } = {},
): string[] {
  return full !== true && targets.length > COMPACT_ABOVE
    ? renderCompact(targets, kind, style)
    : targets.flatMap((target) => describeTarget(target, style.state));
}

function renderCompact(targets: readonly TargetReceipt[], kind: OrderKind, style: Style): string[] {
  const proved = targets
    .flatMap((target) => {
      const afterMs = target.report?.proved === true ? target.report.provedAfterMs : undefined;
      return afterMs === undefined ? [] : [{ target, afterMs: begunAfterMs(target) + afterMs }];
    })
    .sort((a, b) => b.afterMs - a.afterMs);
  const open = targets.filter(({ outcome }) => !CONFIRMED_OUTCOMES.includes(outcome));
  const escalated = targets.filter(({ report }) => report?.escalated === true).length;
  const workers = new Set(targets.map(({ workerId }) => workerId)).size;
  const lines = [
    `${count(targets.length, 'agent')} on ${count(workers, 'worker')}` +
      (kind === 'kill' ? `; ${escalated} needed SIGKILL` : ''),
  ];
  if (proved.length > 0) {
    const middle = proved[Math.floor(proved.length / 2)]?.afterMs ?? 0;
    lines.push(
      `proved dead after ${Math.round(middle)} ms at the median, ${Math.round(proved[0]?.afterMs ?? 0)} ms at most`,
      `the slowest:`,
      ...proved.slice(0, SLOWEST_SHOWN).flatMap(({ target }) => describeTarget(target, style.state)),
    );
  }
  if (open.length > 0) {
    lines.push(
      'not confirmed:',
      ...open.slice(0, UNCONFIRMED_SHOWN).flatMap((target) => describeTarget(target, style.state)),
    );
    if (open.length > UNCONFIRMED_SHOWN)
      lines.push(`… and ${open.length - UNCONFIRMED_SHOWN} more (--full shows all)`);
  }
  return lines;
}
