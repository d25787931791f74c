import { scopeCovers, type Order, type Ring, type TargetReceipt } from '#libs/contracts';
import type { AgentEnded, AgentRunner, AgentSlot } from '#libs/spawner';
import { Subscriber, type Valkey } from '#libs/valkey';
import type { Subscription } from 'rxjs';
import type { OrderStore } from './order-store';

/**
 * The worker's side of the killswitch. The doorbell carries the order itself, so what is in scope is stopped without
 * reading anything back. Hints get lost: after every (re)subscription, and whenever a heartbeat shows another head of
 * the log than ours, the log is read from our cursor on.
 */
export class KillResponder {
  private readonly subscriber: Subscriber;
  private readonly subscriptions: Subscription[] = [];
  private cursor = '0-0';
  /** Orders seen and not known to be complete: their targets are looked at with every heartbeat. */
  private readonly watched = new Map<string, Order>();
  private catching: Promise<void> | undefined;
  /** Orders obeyed that the doorbell did not bring. */
  caughtUp = 0;

  constructor(
    valkey: Valkey,
    private readonly orders: OrderStore,
    private readonly runner: AgentRunner,
    private readonly options: { readonly workerId: string; readonly onError: (error: unknown) => void },
  ) {
    this.subscriber = new Subscriber(valkey.connections.create('subscriber'), [valkey.keys.doorbellChannel]);
  }

  /** Listens from the log's head at registration: older orders cannot concern a worker that owned nothing yet. */
  async start(head: string): Promise<void> {
    this.cursor = head;
    this.subscriptions.push(
      this.subscriber.messages$.subscribe(({ message }) => this.obey(JSON.parse(message) as Ring)),
      this.subscriber.subscribed$.subscribe(() => void this.catchUp()),
      this.runner.ended$.subscribe((ended) => void this.report(ended).catch(this.options.onError)),
    );
    await this.subscriber.start();
  }

  /** Called with every heartbeat's answer. */
  async noticeHead(head: string): Promise<void> {
    if (head !== this.cursor) await this.catchUp();
    for (const order of this.watched.values()) await this.lookAt(order).catch(this.options.onError);
  }

  /** Stops what an open order was resolved to, should both rings have been lost. */
  private async lookAt(order: Order): Promise<void> {
    const { workerId } = this.options;
    const { complete, targets, state } = await this.orders.receipt(order.id);
    if (complete || state !== 'open') this.watched.delete(order.id);
    const mine = targets
      .filter((t) => t.workerId === workerId && t.outcome === 'pending')
      .map((t) => t.agentId);
    if (mine.length > 0) this.caughtUp += this.obey({ order, targets: mine });
  }

  /** Reads the log from our cursor on and obeys what it holds. Calls share one reading. */
  async catchUp(): Promise<void> {
    this.catching ??= this.readLog()
      .catch(this.options.onError)
      .finally(() => (this.catching = undefined));
    await this.catching;
  }

  private async readLog(): Promise<void> {
    const { orders, cursor } = await this.orders.since(this.cursor);
    for (const order of orders) this.caughtUp += this.obey({ order });
    this.cursor = cursor;
  }

  /**
   * Begins to stop what is in scope, now. Repeatable. Returns how many it found. A late reading of the log must not
   * reach what began after the order: by scope `all` and `worker` take only agents claimed before it was placed.
   */
  obey({ order, targets }: Ring): number {
    const { workerId } = this.options;
    const { scope, placedAt } = order;
    this.watched.set(order.id, order);
    const wide = scope.type === 'all' || scope.type === 'worker';
    const named = new Set(targets);
    const inScope = (slot: AgentSlot): boolean => {
      if (named.has(slot.agentId)) return true;
      if (!scopeCovers(scope, { agentId: slot.agentId, executionId: slot.executionId, workerId }))
        return false;
      return !wide || (slot.claimedAt !== undefined && slot.claimedAt <= placedAt);
    };
    return this.runner.stopWhere((slot) => inScope(slot) && slot.cause?.order?.id !== order.id, {
      reason: order.reason,
      mode: order.mode,
      by: order.by,
      order,
      endsAs: 'killed',
      ...(order.graceMs === undefined ? {} : { graceMs: order.graceMs }),
    });
  }

  private async report(ended: AgentEnded): Promise<void> {
    const { order } = ended;
    if (order === undefined) return;
    const killed = ended.outcome?.state === 'killed';
    const target: TargetReceipt = {
      agentId: ended.fence.agentId,
      executionId: ended.executionId,
      nodeId: ended.nodeId,
      workerId: this.options.workerId,
      outcome: !ended.confirmed ? 'unconfirmed' : killed ? 'killed' : 'already-ended',
      ...(ended.report === undefined ? {} : { report: ended.report }),
      ...(ended.confirmed
        ? {}
        : { detail: 'processes of its tree were still seen; the worker goes on trying' }),
    };
    await this.orders.report(order.id, target);
  }

  stop(): void {
    for (const subscription of this.subscriptions.splice(0)) subscription.unsubscribe();
    this.subscriber.stop();
  }
}
