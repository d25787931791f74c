/**
 * The doorbell's message: an order, or targets of it, are in the store; or the question whether the worker that hears it
 * could stop now.
 */
export type Heard =
  { readonly orderId: string; readonly targets: readonly string[] } | { readonly ask: string };

type Unread<T> = { readonly [K in keyof T]?: unknown };

/**
 * Undefined for what nobody of ours said. A message is a hint and carries no authority: anybody who may publish on the
 * channel could have made it, so only ids are taken from it, and the order itself is read from where only scripts of
 * ours write it (ADR 0014).
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
