import type { Order } from '#libs/contracts';
import type { AgentSlot } from '#libs/spawner';

interface Question {
  readonly order: Order;
  readonly slot: AgentSlot;
}

/** The questions whether an order takes an agent that got no answer. Each heartbeat asks them again. */
export class UnansweredQuestions {
  private open = new Map<AgentSlot, Map<string, Question>>();

  note(order: Order, slot: AgentSlot): void {
    const ofSlot = this.open.get(slot) ?? new Map<string, Question>();
    this.open.set(slot, ofSlot.set(order.id, { order, slot }));
  }

  /** All of them. Those that get no answer again are to be noted again. */
  take(): Question[] {
    const taken = [...this.open.values()].flatMap((ofSlot) => [...ofSlot.values()]);
    this.open = new Map();
    return taken;
  }
}
