import type { BelayClient } from '#libs/client';
import { isBelayError, type Receipt } from '#libs/contracts';
import { describeScope } from '../receipt/describe-scope';
import { count, formatDuration } from '../text/format';
import { ok, warn, type Check } from './check';

/** Orders named before the rest is counted. */
const SHOWN = 5;

/** Orders whose proof is missing: what they were for may still run. */
export async function checkOrders(client: BelayClient, now: number): Promise<Check[]> {
  try {
    return describeOrders((await client.receipts()).items, now);
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    return [warn('orders', `not known: ${error.message}`)];
  }
}

/** One line for each that is neither complete nor closed by a person. */
export function describeOrders(receipts: readonly Receipt[], now: number): Check[] {
  const open = receipts.filter(({ complete, closed }) => !complete && closed === undefined);
  if (open.length === 0) return [ok('orders', 'none waits for proof')];
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
  return rest > 0 ? [...checks, warn('orders', `… and ${count(rest, 'more order')} without proof`)] : checks;
}
