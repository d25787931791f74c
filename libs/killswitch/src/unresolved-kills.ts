import { conditionsOf, selectorMatches, type ExecutionRecord } from '#libs/contracts';
import type { OrderGiver } from './order-giver';
import type { OrderStore } from './order-store';

/**
 * Wide kills that are placed and whose targets are not all named yet. Workers hear a kill before its orchestrator has stopped
 * the executions in its scope, so the first agent that they end may make its execution ask for a stop. That stop belongs to the
 * kill. Otherwise the kill's receipt would not name the agents that the stop ends (docs/proof-of-stop.md).
 */
export class UnresolvedKills {
  private readonly underWay = new Map<string, Promise<void>>();

  constructor(
    private readonly orders: OrderStore,
    private readonly giver: OrderGiver,
  ) {}

  /**
   * Carries out the wide kills whose scope covers that execution. Simultaneous callers share the work on an order. Resolves
   * with whether there was such a kill: then the execution may be stopping.
   */
  async carryOutFor({ labels }: Pick<ExecutionRecord, 'labels'>): Promise<boolean> {
    let found = false;
    for (const order of await this.orders.open()) {
      const { kind, scope } = order;
      const isWide = scope.type === 'all' || (scope.type === 'selector' && isIn(scope.selector, labels));
      if (kind !== 'kill' || !isWide || (await this.orders.progress(order.id)).isResolved) continue;
      found = true;
      await (this.underWay.get(order.id) ?? this.share(order.id, async () => this.giver.carryOut(order)));
    }
    return found;
  }

  private async share(id: string, carryOut: () => Promise<void>): Promise<void> {
    const shared = carryOut().finally(() => this.underWay.delete(id));
    this.underWay.set(id, shared);
    return shared;
  }
}

const isIn = (selector: string, labels: ExecutionRecord['labels']): boolean =>
  selectorMatches(conditionsOf(selector), labels);
