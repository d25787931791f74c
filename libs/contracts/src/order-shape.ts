import { ORDER_KINDS, type Order } from './orders';
import type { Scope } from './scope';
import { parseSelector } from './selector';
import { isOrderId } from './ids';

type Unread<T> = { readonly [K in keyof T]?: unknown };

/** For each type of scope, the field that names its target. */
const WHICH: Readonly<Record<string, string>> = {
  pool: 'pool',
  selector: 'selector',
  worker: 'workerId',
  execution: 'executionId',
  agent: 'agentId',
};

/** Why a stored value is not the order `id`; undefined when it is. */
export function orderProblem(id: string, value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return 'it is JSON, but not an object';
  const order = value as Unread<Order>;
  if (!isOrderId(id) || order.id !== id) return 'its id is not the one it is stored under';
  for (const name of ['seq', 'by'] as const)
    if (typeof order[name] !== 'string') return `${name} is not a text`;
  if (!(ORDER_KINDS as readonly unknown[]).includes(order.kind))
    return `kind is not one of ${ORDER_KINDS.join(', ')}`;
  if (order.mode !== 'graceful' && order.mode !== 'immediate')
    return 'mode is not one of graceful, immediate';
  if (typeof order.placedAt !== 'number') return 'placedAt is not a number';
  if (order.graceMs !== undefined && typeof order.graceMs !== 'number') return 'graceMs is not a number';
  if (order.reach !== undefined && !isReach(order.reach)) return 'reach is not by shard';
  return isScope(order.scope) ? undefined : 'scope is not one that an order can have';
}

const isReach = (reach: unknown): boolean =>
  typeof reach === 'object' &&
  reach !== null &&
  Object.values(reach).every((count) => typeof count === 'number');

function isScope(scope: unknown): scope is Scope {
  const fields = (scope ?? {}) as Readonly<Record<string, unknown>>;
  if (fields['type'] === 'all') return true;
  const name = WHICH[String(fields['type'])];
  const which =
    name === undefined || !Object.hasOwn(WHICH, String(fields['type'])) ? undefined : fields[name];
  return typeof which === 'string' && (fields['type'] !== 'selector' || hasConditions(which));
}

const hasConditions = (selector: string): boolean => (parseSelector(selector).selector ?? []).length > 0;
