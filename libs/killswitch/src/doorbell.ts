import { conditionsOf, ORDER_KINDS, type Order, type Ring, type Scope } from '#libs/contracts';

/** What the doorbell carries: an order, or the question whether whoever hears it could stop now. */
export type Heard = Ring | { readonly ask: string };

type Unread<T> = { readonly [K in keyof T]?: unknown };

/**
 * Undefined for what nobody of ours said. The doorbell is a hint: whoever cannot read it looks at the log instead, and
 * no message on it may end a worker (R31).
 */
export function readDoorbell(message: string): Heard | undefined {
  try {
    const heard = JSON.parse(message) as Unread<Ring & { ask: string }> | null;
    if (typeof heard?.ask === 'string') return { ask: heard.ask };
    const { order, targets } = heard ?? {};
    if (!isOrder(order)) return undefined;
    if (targets === undefined) return { order };
    const named = Array.isArray(targets) && targets.every((id): id is string => typeof id === 'string');
    return named ? { order, targets } : undefined;
  } catch {
    return undefined;
  }
}

function isOrder(value: unknown): value is Order {
  const { id, seq, kind, mode, by, placedAt, scope } = (value ?? {}) as Unread<Order>;
  const texts = [id, seq, by].every((text) => typeof text === 'string');
  return (
    texts &&
    (ORDER_KINDS as readonly unknown[]).includes(kind) &&
    (mode === 'graceful' || mode === 'immediate') &&
    typeof placedAt === 'number' &&
    isScope(scope as Unread<Scope> | null)
  );
}

/** By the type of a scope, the field that says which. */
const WHICH: Readonly<Record<string, string>> = {
  pool: 'pool',
  selector: 'selector',
  worker: 'workerId',
  execution: 'executionId',
  agent: 'agentId',
};

/** @throws BelayError when its selector cannot be read */
function isScope(scope: Unread<Scope> | null | undefined): boolean {
  const fields = (scope ?? {}) as Readonly<Record<string, unknown>>;
  const { type } = fields;
  if (type === 'all') return true;
  const which = fields[WHICH[String(type)] ?? ''];
  return typeof which === 'string' && (type !== 'selector' || conditionsOf(which).length > 0);
}
