import type { Order } from '#libs/contracts';
import type { AgentSlot } from '#libs/spawner';

/** Until a failed freeze is tried again, doubled with each failure. One try looks for stopped processes for up to 5 s. Milliseconds. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

interface Failed {
  readonly order: Order;
  readonly slot: AgentSlot;
  readonly pauseMs: number;
  /** Monotonic. */
  readonly dueAt: number;
}

/** The freezes of agents that failed on this worker, and when each is tried again. */
export class FailedFreezes {
  private readonly failed = new Map<AgentSlot, Map<string, Failed>>();

  /** Notes a failure. True: it is the first of that agent and order. */
  note(order: Order, slot: AgentSlot): boolean {
    const ofSlot = this.failed.get(slot) ?? new Map<string, Failed>();
    this.failed.set(slot, ofSlot);
    const before = ofSlot.get(order.id);
    const pauseMs = before === undefined ? FIRST_PAUSE_MS : Math.min(before.pauseMs * 2, LONGEST_PAUSE_MS);
    ofSlot.set(order.id, { order, slot, pauseMs, dueAt: performance.now() + pauseMs });
    return before === undefined;
  }

  /** Forgets a freeze that succeeded. */
  done(order: Order, slot: AgentSlot): void {
    const ofSlot = this.failed.get(slot);
    ofSlot?.delete(order.id);
    if (ofSlot?.size === 0) this.failed.delete(slot);
  }

  /** The freezes that are due. Those for which `isOver` holds are forgotten. */
  due(isOver: (order: Order, slot: AgentSlot) => boolean): Failed[] {
    const now = performance.now();
    const due: Failed[] = [];
    for (const one of [...this.failed.values()].flatMap((ofSlot) => [...ofSlot.values()]))
      if (isOver(one.order, one.slot)) this.done(one.order, one.slot);
      else if (one.dueAt <= now) due.push(one);
    return due;
  }
}
