import type { BelayClient, Page } from '#libs/client';
import { isBelayError, type Receipt } from '#libs/contracts';
import { describeScope } from '../receipt/describe-scope';
import { count, formatDuration } from '../text/format';
import { ok, warn, type Check } from './check';

/** This many orders are named; the others are counted. */
const SHOWN = 5;

/** Orders whose proof is missing: their targets may still run. */
export async function checkOrders(client: BelayClient, now: number): Promise<Check[]> {
  try {
    // Not the newest ones: an order without proof may be older than many orders with proof.
    return describeOrders(await client.receipts({ unproved: true }), now);
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    return [warn('orders', `not known: ${error.message}`)];
  }
}

/** One line for each order that is neither complete nor closed by a person. */
export function describeOrders({ items, nextCursor }: Page<Receipt>, now: number): Check[] {
  // Some may have been confirmed since the list was made.
  const open = items.filter(({ complete, closed }) => !complete && closed === undefined);
  const isMore = nextCursor !== undefined;
  if (open.length === 0 && !isMore) return [ok('orders', 'all proved')];
  const checks = open.slice(0, SHOWN).map(({ orderId, order, state, missing }) => {
    const workers = [...new Set(missing.map(({ workerId }) => workerId))];
    const where = workers.length === 0 ? '' : ` on ${workers.slice(0, 3).join(', ')}`;
    const more = workers.length > 3 ? ` and ${workers.length - 3} more` : '';
    const what =
      missing.length === 0
        ? 'its targets are not all known yet'
        : `${count(missing.length, 'target')} not confirmed${where}${more}`;
    const asked = `${order.kind} ${describeScope(order.scope)}, asked ${formatDuration(now - order.placedAt)} ago`;
    return warn('orders', `${orderId} is ${state}: ${what} (${asked})`, `belay receipt ${orderId}`);
  });
  const rest = open.length - checks.length;
  if (isMore) return [...checks, warn('orders', `… and more than ${count(rest, 'other')} without proof`)];
  return rest > 0 ? [...checks, warn('orders', `… and ${count(rest, 'more order')} without proof`)] : checks;
}
