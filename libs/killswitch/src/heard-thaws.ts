import { holdOf, type Order } from '#libs/contracts';
import { isBefore } from './log-position';

/** At most this many thaws are remembered. */
const MAX_THAWS = 1_000;

/** The last thaw heard for each freeze, by its place in the log. */
export class HeardThaws {
  private readonly thaws = new Map<string, string>();

  /** Notes a thaw. False: a later thaw of that freeze was heard already. */
  note(order: Order): boolean {
    const hold = holdOf(order);
    const last = this.thaws.get(hold);
    if (last !== undefined && !isBefore(last, order.seq)) return false;
    this.thaws.delete(hold);
    this.thaws.set(hold, order.seq);
    const [oldest] = this.thaws.keys();
    if (this.thaws.size > MAX_THAWS && oldest !== undefined) this.thaws.delete(oldest);
    return true;
  }

  /** Whether the order is a freeze whose thaw was heard, in whatever order the two arrived. */
  isOver(order: Order): boolean {
    const thaw = order.kind === 'freeze' ? this.thaws.get(holdOf(order)) : undefined;
    return thaw !== undefined && isBefore(order.seq, thaw);
  }
}
