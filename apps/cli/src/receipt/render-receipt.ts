import type { Order, Receipt } from '#libs/contracts';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count, formatDuration, formatTime } from '../text/format';
import { describeLatch } from './describe-latch';
import { describeScope } from './describe-scope';
import { renderTargets } from './render-targets';

/** The receipt for people: each target with its signals and evidence, the totals, and one line with the result. */
export function renderReceipt(
  receipt: Receipt,
  style: Style,
  options: { readonly full?: boolean } = {},
): string[] {
  return [
    ...renderOrder(receipt.order),
    ...renderTargets(receipt.targets, receipt.order.kind, style, options),
    renderTotals(receipt.totals),
    ...renderStopped(receipt, options),
    ...renderVerdict(receipt, style),
    ...(receipt.latch === undefined ? [] : describeLatch(receipt.latch)),
  ];
}

function renderOrder(order: Order): string[] {
  const grace = order.mode === 'immediate' ? 'at once' : `graceful${graceOf(order)}`;
  const asked = `asked by ${cleanText(order.by)} at ${formatTime(order.placedAt)}, reason ${order.reason}`;
  const note = order.note === undefined ? '' : `: ${cleanText(order.note)}`;
  const how = order.kind === 'kill' ? `, ${grace}` : '';
  return [`order ${order.id}  ${order.kind} ${describeScope(order.scope)}${how}`, asked + note];
}

function graceOf(order: Order): string {
  return order.graceMs === undefined ? '' : `, grace ${formatDuration(order.graceMs)}`;
}

/** `3 targets: 2 killed, 1 already ended`. */
export function renderTotals(totals: Receipt['totals']): string {
  const parts = [
    [totals.killed, 'killed'],
    [totals.frozen, 'frozen'],
    [totals.thawed, 'thawed'],
    [totals.alreadyEnded, 'already ended'],
    [totals.failed, 'failed'],
    [totals.unconfirmed, 'unconfirmed'],
    [totals.pending, 'pending'],
  ]
    .filter(([n]) => n !== 0)
    .map(([n, word]) => `${n} ${word}`);
  return `${count(totals.total, 'target')}${parts.length === 0 ? '' : `: ${parts.join(', ')}`}`;
}

/** This many executions are shown by id; the full receipt shows all of them. */
const STOPPED_SHOWN = 5;

/** Includes executions without a running agent: their nodes that had not started are cancelled. */
function renderStopped({ order, executions = [] }: Receipt, { full }: { readonly full?: boolean }): string[] {
  // The scope names the execution already.
  if (executions.length === 0 || order.scope.type === 'execution') return [];
  const shown = full === true ? executions : executions.slice(0, STOPPED_SHOWN);
  const rest = executions.length - shown.length;
  const more = rest === 0 ? '' : ` and ${rest} more (--full)`;
  return [`stopped ${count(executions.length, 'execution')}: ${shown.join(', ')}${more}`];
}

function renderVerdict(receipt: Receipt, style: Style): string[] {
  if (receipt.complete) {
    const none = receipt.totals.total === 0;
    const stopped = (receipt.executions ?? []).length > 0;
    return [
      `${style.good('complete')}: ${none ? (stopped ? 'no agent was running in scope' : 'nothing was running in scope') : `every target is confirmed${describeGrade(receipt.grade)}`}`,
      ...renderStillHeld(receipt),
      ...renderClosed(receipt),
    ];
  }
  const byWorker = new Map<string, number>();
  for (const { workerId } of receipt.missing) byWorker.set(workerId, (byWorker.get(workerId) ?? 0) + 1);
  const where = [...byWorker].map(([workerId, n]) => `${n} on ${workerId}`).join(', ');
  const what =
    receipt.missing.length === 0
      ? 'the targets are not all known yet'
      : `${count(receipt.missing.length, 'target')} not confirmed: ${where}`;
  return [`${style.bad('incomplete')}: ${what}`, ...renderOutlook(receipt)];
}

/** The grade of a proof, as the end of a sentence. */
export function describeGrade(grade: Receipt['grade']): string {
  if (grade === undefined) return '';
  return grade === 'kernel' ? ', proved by the kernel' : ', proved by marks only, which an agent can strip';
}

/** An agent under two freezes runs again after the second thaw, so a complete thaw may have moved nothing. */
function renderStillHeld({ order, totals }: Receipt): string[] {
  if (order.kind !== 'thaw' || totals.frozen === 0) return [];
  const held = `${count(totals.frozen, 'agent')} ${totals.frozen === 1 ? 'stays' : 'stay'} frozen by another freeze`;
  return [`${held}. Look with: belay latches, belay ps --state paused`];
}

function renderOutlook(receipt: Receipt): string[] {
  const { orderId, state, closed } = receipt;
  if (closed !== undefined) return [...renderClosed(receipt), 'Belay stopped trying.'];
  const again = `Belay keeps trying. Look again with: belay receipt ${orderId}`;
  // Closing an order is only for after the limit.
  if (state === 'open') return [again];
  return [again, `If it can never be confirmed: belay close ${orderId} --note "why"`];
}

/** Also for a receipt that became complete after a person had closed it. */
function renderClosed({ closed }: Receipt): string[] {
  if (closed === undefined) return [];
  const { by, at, note } = closed;
  return [`closed by ${cleanText(by)} at ${formatTime(at)}: ${cleanText(note)}`];
}
