/**
 * The doorbell's message. Either an order, or targets of an order, are in the store; or it asks whether the worker could stop
 * now.
 */
export type Heard =
  { readonly orderId: string; readonly targets: readonly string[] } | { readonly ask: string };

type Unread<T> = { readonly [K in keyof T]?: unknown };

/**
 * Reads a message; undefined for one that Belay did not send. A message is a hint without authority: anybody who may publish on
 * the channel could have sent it. So only ids are taken from it, and the order itself is read from keys that only Belay's
 * scripts write (ADR 0014).
 */
export function readDoorbell(message: string): Heard | undefined {
  try {
    const heard = JSON.parse(message) as Unread<{ order: unknown; targets: unknown; ask: unknown }> | null;
    if (typeof heard?.ask === 'string') return { ask: heard.ask };
    const { order, targets = [] } = heard ?? {};
    const { id } = (order ?? {}) as Unread<{ id: string }>;
    if (typeof id !== 'string' || !Array.isArray(targets)) return undefined;
    const named = targets.filter((target): target is string => typeof target === 'string');
    return named.length === targets.length ? { orderId: id, targets: named } : undefined;
  } catch {
    return undefined;
  }
}
