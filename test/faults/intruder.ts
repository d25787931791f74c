import { ulid } from 'ulid';
import type { Place } from './tell';
import { ask } from './tell';

const CONTROL = '{belay:ctl}';
/** Each is JSON and no order. */
const NO_ORDERS: readonly ((id: string) => unknown)[] = [
  () => [],
  () => 7,
  (id) => ({ id, kind: 'kill' }),
  (id) => ({ ...orderOf(id), scope: {} }),
  (id) => ({ ...orderOf(id), scope: { type: 'selector', selector: '=' } }),
  (id) => ({ ...orderOf(id), kind: 'explode' }),
  (id) => ({ ...orderOf(id), placedAt: 'now' }),
];

function orderOf(id: string): object {
  const placedAt = Date.now() + 60_000;
  const scope = { type: 'all' };
  return {
    id,
    seq: `${placedAt}-0`,
    kind: 'kill',
    scope,
    mode: 'immediate',
    reason: 'killswitch',
    by: 'nobody',
    placedAt,
  };
}

/** A client with a login to the server that should not have one. */
export class Intruder {
  /** The ids of orders that nobody placed. */
  readonly forged: string[] = [];
  #count = 0;

  /** Writes an entry into the log that is no order. */
  async malformed(place: Place): Promise<void> {
    const id = `ord_${ulid()}`;
    const text = JSON.stringify(NO_ORDERS[this.#count++ % NO_ORDERS.length]?.(id));
    await ask(place, ['HSET', `${CONTROL}:ord:${id}`, 'order', text, 'state', 'open', 'missing', '0']);
    await ask(place, ['SADD', `${CONTROL}:orders:open`, id]);
    await ask(place, ['XADD', `${CONTROL}:orders`, '*', 'id', id]);
  }

  /** Rings the doorbell with an order over everything that is in no log. */
  async forge(place: Place): Promise<void> {
    const id = `ord_${ulid()}`;
    this.forged.push(id);
    await ask(place, ['PUBLISH', 'belay:doorbell', JSON.stringify({ order: orderOf(id) })]);
  }
}
