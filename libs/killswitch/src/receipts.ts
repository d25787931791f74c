import { NotFoundError, type BelayEvent, type Receipt } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { retryTransient, type ChangeFeed } from '#libs/valkey';
import { targetOf } from './order-receipt';
import type { OrderStore } from './order-store';
import { requireTimeout } from './require-timeout';
import { outcomeFor } from './target-outcome';

/** A worker that has not reported after this may have died between an end and its report. Milliseconds. */
const REPAIR_AFTER_MS = 900;

/** The times that bound an open receipt. */
export interface ReceiptLimits {
  /** An order's receipt is closed as incomplete when it has been open for this long. Milliseconds. */
  readonly proofLimitMs: number;
  /** The grace of agents for which neither an order nor their spec sets one. Milliseconds; default 0. */
  readonly graceMs?: number;
}

/** Waits for receipts, and fills in outcomes from agents' records. */
export class Receipts {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly orders: OrderStore,
    private readonly feed: ChangeFeed,
    private readonly limits: ReceiptLimits,
  ) {}

  /** The receipt once it is complete, or as it is when the limit has passed. */
  async waitFor(orderId: string, waitMs?: number): Promise<Receipt> {
    const limitMs = await retryTransient(async () => this.limitOf(orderId));
    const timeoutMs = waitMs ?? limitMs;
    const concerns = ({ entity, data }: BelayEvent): boolean =>
      entity === 'order' && (data as { orderId?: string } | undefined)?.orderId === orderId;
    let repairedAt = performance.now();
    const look = async (): Promise<Receipt | undefined> => {
      const state = await this.orders.state(orderId).catch(async (error: unknown) => {
        // A failover lost the order during the wait, or the order never existed.
        if (!(error instanceof NotFoundError) || (await this.orders.again(orderId)) === undefined)
          throw error;
        return 'open' as const;
      });
      if (state !== 'open') return this.orders.receipt(orderId);
      if (performance.now() - repairedAt < REPAIR_AFTER_MS) return undefined;
      repairedAt = performance.now();
      await this.repair(orderId);
      return undefined;
    };
    return this.feed
      .until(look, concerns, { timeoutMs, what: `The receipt of ${orderId}` })
      .catch(async (error: unknown) => {
        requireTimeout(error);
        if (timeoutMs >= limitMs) await this.orders.expire(orderId);
        return this.orders.receipt(orderId);
      });
  }

  /** The proof limit plus the longest grace of any agent in scope: no receipt is overdue during the grace. */
  async limitOf(orderId: string): Promise<number> {
    const { proofLimitMs, graceMs = 0 } = this.limits;
    const order = await this.orders.get(orderId);
    if (order?.kind !== 'kill' || order.mode === 'immediate') return proofLimitMs;
    return proofLimitMs + (order.graceMs ?? Math.max(graceMs, await this.orders.longestGrace(orderId)));
  }

  /** A worker stores an agent's end before it reports the end. If it died in between, the agent's record has the evidence. */
  async repair(orderId: string): Promise<void> {
    const order = await this.orders.get(orderId);
    if (order === undefined) return;
    // This includes trees that could not be frozen in time: they may have ended since, or been thawed.
    const open = await this.orders.unconfirmed(orderId);
    for (const agent of await this.lifecycle.agents.many(open.map(({ agentId }) => agentId))) {
      const before = open.find(({ agentId }) => agentId === agent.id)?.outcome;
      const { outcome, detail } = outcomeFor(order, agent);
      if (outcome === 'pending' || outcome === before) continue;
      const target = this.orders.counted(targetOf(agent, outcome, detail));
      if (target.outcome !== before) await this.orders.report(orderId, target);
    }
  }
}
