import { isDeepStrictEqual } from 'node:util';
import type { AuditFault, Order, OrderState, TargetReceipt } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { chained, sha1, type LoggedAct } from './audit-chain';

/** Fields of an order that its entry `order.open` repeats. */
const TOLD = ['kind', 'scope', 'mode', 'reason', 'by', 'role', 'requestId', 'note', 'latchId'] as const;

/** The log's entries about one order, those that are kept. */
export interface OrderTrail {
  open?: LoggedAct;
  /** The last entry that settled the order's receipt: complete, or given up. */
  settled?: LoggedAct;
  closed?: LoggedAct;
}

/** The server's record of one order. */
export interface HeldOrder {
  readonly record: Readonly<Record<string, string>>;
  readonly targets: Readonly<Record<string, string>>;
  /** Confirmed targets in the order in which the digest includes them. */
  readonly sealed: readonly string[];
}

/** Adds an act to the trail of its order. Other acts (joined, unconfirmed, of a drill) change nothing of an order. */
export function follow(trails: Map<string, OrderTrail>, act: LoggedAct): void {
  const { orderId } = act;
  if (orderId === undefined) return;
  // An order that was stored again after a failover begins anew.
  if (act.act === 'order.open') trails.set(orderId, { open: act });
  if (act.act === 'order.complete' || act.act === 'order.incomplete')
    trails.set(orderId, { ...trails.get(orderId), settled: act });
  if (act.act === 'order.closed') trails.set(orderId, { ...trails.get(orderId), closed: act });
}

/**
 * Reads an order; undefined when retention has removed it. Retention removes record, targets and list in one script. So the
 * record is read first and last: a part that is missing although the record exists was not removed by retention.
 */
export async function readOrder({ redis, keys }: Valkey, orderId: string): Promise<HeldOrder | undefined> {
  const [first, sealed, targets, record] = await Promise.all([
    redis.exists(keys.order(orderId)),
    redis.lrange(keys.orderSealed(orderId), 0, -1),
    redis.hgetall(keys.orderTargets(orderId)),
    redis.hgetall(keys.order(orderId)),
  ]);
  const gone = record['order'] === undefined;
  if (gone && (first === 1 || (sealed.length === 0 && Object.keys(targets).length === 0))) return undefined;
  return { record, targets, sealed };
}

/** The differences between an order and its log entries. */
export function compareOrder(orderId: string, trail: OrderTrail, held: HeldOrder): AuditFault[] {
  const { open, settled, closed } = trail;
  const faults: AuditFault[] = [];
  const text = held.record['order'];
  if (text === undefined) {
    const { id } = closed ?? settled ?? open ?? { id: '' };
    return [{ id, fault: `the record of ${orderId} was removed while its receipt is kept` }];
  }
  if (open !== undefined) {
    const changed = changedFields(orderId, open, text);
    if (changed !== undefined)
      faults.push({ id: open.id, fault: `the order ${orderId} was changed${changed}` });
  }
  const last = closed ?? settled ?? open;
  if (last !== undefined) {
    const wrong = wrongState(trail, held.record);
    if (wrong !== undefined)
      faults.push({ id: last.id, fault: `the state of ${orderId} was changed: ${wrong}` });
  }
  if (settled !== undefined && !isReceiptAsSettled(settled, held))
    faults.push({ id: settled.id, fault: `the receipt of ${orderId} was changed` });
  return faults;
}

/** The changed fields, as the end of a sentence; undefined when there are none. */
function changedFields(orderId: string, open: LoggedAct, text: string): string | undefined {
  let order: Partial<Order>;
  try {
    order = JSON.parse(text) as Partial<Order>;
  } catch {
    return ': it cannot be read';
  }
  const names: string[] = TOLD.filter((name) => !isDeepStrictEqual(order[name], open[name]));
  if (order.id !== orderId) names.unshift('id');
  // An order that was stored again keeps the time of its first placing.
  if (open.again === undefined && order.placedAt !== open.at) names.push('placedAt');
  if (names.length > 0) return `: ${names.join(', ')}`;
  return open.orderDigest === undefined || open.orderDigest === sha1(text) ? undefined : '';
}

function wrongState(
  { settled, closed }: OrderTrail,
  { state = 'none', completedAt, closedBy, closeNote }: Readonly<Record<string, string>>,
): string | undefined {
  const told: OrderState =
    settled === undefined ? 'open' : settled.act === 'order.complete' ? 'complete' : 'incomplete';
  if (state !== told) return `it is ${state}, the log says ${told}`;
  const at = told === 'complete' ? String(settled?.at) : undefined;
  if (completedAt !== at) return 'another time of its completion';
  return closedBy === closed?.by && closeNote === closed?.note ? undefined : 'another closing';
}

/**
 * Checks the targets that were sealed when the entry was written, by number (the outcomes) and content (the digest). A complete
 * receipt has no others; one that was given up may have grown since.
 */
function isReceiptAsSettled({ act, outcomes, digest }: LoggedAct, { sealed, targets }: HeldOrder): boolean {
  const told = Object.values(outcomes ?? {}).reduce((sum, count) => sum + count, 0);
  const again = sealed.slice(0, told).reduce((sum, agentId) => chained(sum, targets[agentId] ?? ''), '');
  if (sealed.length < told || again !== (digest ?? '')) return false;
  if (act !== 'order.complete') return true;
  const names = new Set(sealed);
  // A target that is named twice, or not at all, is not in the digest as itself.
  if (sealed.length !== told || names.size !== told) return false;
  return Object.entries(targets).every(([agentId, text]) => names.has(agentId) && isOf(agentId, text));
}

function isOf(agentId: string, text: string): boolean {
  try {
    return (JSON.parse(text) as TargetReceipt).agentId === agentId;
  } catch {
    return false;
  }
}
