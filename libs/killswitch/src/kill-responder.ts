import { BelayError, holdOf, isBelayError, NotFoundError, scopeCovers, type Order } from '#libs/contracts';
import type { Heartbeat } from '#libs/lifecycle';
import type { AgentSlot, AgentSlots, HoldResult, StartGate } from '#libs/spawner';
import { Subscriber, type Valkey } from '#libs/valkey';
import type { Observable, Subscription } from 'rxjs';
import { ArmedStore, type GuardAnswer } from './armed-store';
import { readDoorbell } from './doorbell';
import { FailedFreezes } from './failed-freezes';
import { HeardThaws } from './heard-thaws';
import { isBefore } from './log-position';
import type { HeldOrder } from './order-reads';
import type { OrderStore } from './order-store';
import { OrdersLog } from './orders-log';
import { TargetReports, type OrderServed } from './target-reports';
import { UnansweredQuestions } from './unanswered-questions';
import { withinReach } from './within-reach';

/** Orders looked up at once because the doorbell named them. Further ones are read from the log. */
const MAX_LOOKUPS = 64;

/** One heartbeat asks about this many orders that were seen and may be over. */
const ASKED_AT_ONCE = 32;

export interface KillResponderOptions {
  readonly workerId: string;
  readonly onError: (error: unknown) => void;
  /** Describes this worker's guard, for the question whether it could stop now. */
  readonly describe: () => Promise<GuardAnswer>;
  /** One reading of the log may take this long. Milliseconds; default 5,000. */
  readonly readMs?: number;
}

/**
 * The worker's side of the killswitch. The doorbell names an order. The worker reads the order from the store in one round
 * trip, since anybody may have sent the message (ADR 0014), and stops the agents in scope. Messages get lost. So after every
 * (re)subscription, and whenever a heartbeat shows another head of the log than the worker's, the worker reads the log from its
 * cursor on.
 */
export class KillResponder implements StartGate {
  private readonly subscriber: Subscriber;
  private readonly armed: ArmedStore;
  private readonly subscriptions: Subscription[] = [];
  private readonly log: OrdersLog;
  private readonly reports: TargetReports;
  private readonly thaws = new HeardThaws();
  private readonly unfrozen = new FailedFreezes();
  private readonly unanswered = new UnansweredQuestions();
  /** Orders seen and not known to be over. Every spawn is checked against them, and each heartbeat asks about some. */
  private readonly watched = new Map<string, Order>();
  private lookups = 0;
  /** Agents reached because a heartbeat reported open targets of this worker. */
  private foundOwn = 0;

  constructor(
    private readonly valkey: Valkey,
    private readonly orders: OrderStore,
    private readonly agents: AgentSlots,
    private readonly options: KillResponderOptions,
  ) {
    const { workerId, onError, readMs } = options;
    this.armed = new ArmedStore(valkey);
    this.log = new OrdersLog(orders, { apply: (held) => this.apply(held), onError, readMs });
    this.reports = new TargetReports(orders, workerId);
    this.subscriber = new Subscriber(valkey.connections.create('subscriber'), [valkey.keys.doorbellChannel]);
  }

  /** Emits each target that this worker has dealt with. */
  get served$(): Observable<OrderServed> {
    return this.reports.served$;
  }

  /** Agents reached by orders that the doorbell did not announce. */
  get caughtUp(): number {
    return this.log.caughtUp + this.foundOwn;
  }

  /** Reads from the log's head at registration on: older orders cannot concern a worker that owned nothing yet. */
  async start(head: string): Promise<void> {
    this.log.begin(head);
    this.subscriptions.push(
      this.subscriber.messages$.subscribe(({ message }) => this.onMessage(message)),
      this.subscriber.subscribed$.subscribe(() => void this.catchUp()),
      this.agents.ended$.subscribe((ended) => void this.reports.ended(ended).catch(this.options.onError)),
    );
    await this.subscriber.start();
  }

  private onMessage(message: string): void {
    const heard = readDoorbell(message);
    if (heard === undefined) {
      this.options.onError(unheard(message));
      void this.catchUp();
    } else if ('ask' in heard) void this.answer(heard.ask).catch(this.options.onError);
    else if (this.lookups >= MAX_LOOKUPS) void this.catchUp();
    else void this.lookUp(heard.orderId, heard.targets).catch(this.options.onError);
  }

  /** Obeys the stored order that the doorbell named. Ignores a message that names no stored order. */
  private async lookUp(orderId: string, named: readonly string[]): Promise<void> {
    this.lookups++;
    try {
      const targets = new Set(named);
      const here = this.agents.slotsWhere(({ agentId }) => targets.has(agentId));
      const ring = await this.orders.ringOf(
        orderId,
        here.map(({ agentId }) => agentId),
      );
      if (ring !== undefined) this.apply(ring);
    } finally {
      this.lookups--;
    }
  }

  private async answer(nonce: string): Promise<void> {
    await this.armed.answer(nonce, this.options.workerId, await this.options.describe());
  }

  /**
   * Woken by every heartbeat's answer, which does not wait for it. It costs a few commands, however many orders and targets
   * other workers have.
   */
  async noticeHead(
    { ordersHead: head, targets = 0 }: Pick<Heartbeat, 'ordersHead' | 'targets'>,
    signal: AbortSignal,
  ): Promise<void> {
    await this.log.notice(head);
    this.freezeAgain();
    this.askAgain();
    if (targets > 0 && !signal.aborted) await this.serveOwn();
    if (!signal.aborted) await this.forgetSome();
  }

  /** Serves the targets that open orders name on this worker, in case both rings were lost. */
  private async serveOwn(): Promise<void> {
    const { workerId } = this.options;
    const own = await this.orders.ownTargets(workerId);
    const idle: string[] = [];
    for (const [orderId, agentIds] of own) {
      const here = this.agents.slotsWhere(({ agentId }) => agentIds.includes(agentId));
      if (here.length === 0) idle.push(orderId);
      if (here.every(({ served }) => served.has(orderId))) continue;
      const order = this.watched.get(orderId) ?? (await this.orders.get(orderId));
      // Reaches the named agents, and none by age.
      if (order === undefined) continue;
      try {
        this.foundOwn += this.apply({ order, targets: agentIds, reach: {} });
      } catch (error) {
        // The targets stay listed for this worker, so the next heartbeat finds them again.
        this.options.onError(error);
      }
    }
    // Agents that are no longer here are reported by another process, as long as their order exists.
    const some = idle.slice(0, ASKED_AT_ONCE);
    const states = some.length === 0 ? [] : await this.orders.states(some);
    for (const [i, orderId] of some.entries())
      if (states[i] === undefined)
        await this.orders.dropOwnTargets(workerId, orderId, own.get(orderId) ?? []);
  }

  /** Asks in turn whether some of the orders seen are over. No spawn waits for an order that is over. */
  private async forgetSome(): Promise<void> {
    const some = [...this.watched.values()].slice(0, ASKED_AT_ONCE);
    if (some.length === 0) return;
    const states = await this.orders.states(some.map(({ id }) => id));
    for (const [i, order] of some.entries()) {
      const state = states[i];
      // A failover lost the order: it is stored again, unless it is so old that retention may have removed it.
      const isOver =
        state === undefined ? (await this.orders.again(order.id)) === undefined : state !== 'open';
      // To the end of the queue, unless it was removed meanwhile.
      if (this.watched.delete(order.id) && !isOver) this.watched.set(order.id, order);
    }
  }

  /** Reads the log from the worker's cursor on and obeys its orders. Calls share one reading. */
  async catchUp(): Promise<void> {
    await this.log.catchUp();
  }

  /**
   * Begins to serve an order on the agents in scope, now. Repeatable. Returns the number of agents begun with at once. These
   * are the named agents, and those that had begun when the order was resolved, or, if it is not resolved yet, by now. An open
   * order also reaches agents that were claimed later. A late reading of the log must not reach agents that began after the
   * order's end, since an execution may have been retried. So for those agents the store is asked first. No clock decides: the
   * shard's clock and the clock of the orders' placing may differ.
   */
  apply({ order, reach, targets }: HeldOrder & { readonly targets?: readonly string[] }): number {
    this.orders.keep(order);
    if (order.kind === 'thaw' && this.thaws.note(order))
      for (const freeze of this.watched.values())
        if (this.thaws.isOver(freeze)) this.watched.delete(freeze.id);
    if (this.thaws.isOver(order)) {
      this.watched.delete(order.id);
      const slots = this.agents.slotsWhere(({ agentId }) => targets?.includes(agentId) === true);
      void this.reports.neverHeld(order, slots).catch(this.options.onError);
      return 0;
    }
    this.watched.set(order.id, order);
    const named = new Set(targets);
    const before = ({ born, executionId }: AgentSlot): boolean =>
      order.scope.type === 'agent' ||
      (born !== undefined &&
        // Without a count of the shard the store is asked below whether the order is open.
        (reach === undefined || withinReach(reach, this.valkey.keys.tagOf(executionId), born) === 'yes'));
    const now = (slot: AgentSlot): boolean =>
      this.isNews(order, slot) &&
      (named.has(slot.agentId) || (this.covers(order, slot) && before(slot)) || this.takesOff(order, slot));
    const count = this.serve(order, now);
    for (const slot of this.agents.slotsWhere((one) => this.isNews(order, one) && this.covers(order, one)))
      void this.askOrNote(order, slot);
    return count;
  }

  /**
   * Called before a claimed agent is spawned, since an open order may cover it. Most of the time there is nothing to wait for.
   * Repeatable. @throws BelayError OUTCOME_UNKNOWN: nobody knows yet whether an order takes the agent · CORRUPT_RECORD: the
   * server cannot tell
   */
  beforeSpawn(slot: AgentSlot): Promise<void> | undefined {
    const orders = [...this.watched.values()].filter(
      (order) => this.isNews(order, slot) && this.covers(order, slot),
    );
    if (orders.length === 0) return undefined;
    return this.askBeforeSpawn(orders, slot);
  }

  /** Every order is asked about to the end, so that those that can be read stop the agent beside one that cannot. */
  private async askBeforeSpawn(orders: readonly Order[], slot: AgentSlot): Promise<void> {
    const asked = await Promise.allSettled(
      orders.map(async (order) =>
        // A thaw keeps nothing from starting.
        order.kind === 'thaw' ? this.askOrNote(order, slot) : this.serveIfOpen(order, slot),
      ),
    );
    const errors = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    // The caller repeats the call after an unknown outcome, and finds the other errors again.
    const unknown = errors.find((error) => isBelayError(error) && error.code === 'OUTCOME_UNKNOWN');
    if (errors.length > 0) throw unknown ?? errors[0];
  }

  /** Asks now. Without an answer the next heartbeat asks again. Never rejects. */
  private async askOrNote(order: Order, slot: AgentSlot, isFirst = true): Promise<void> {
    try {
      await this.serveIfOpen(order, slot);
    } catch (error) {
      this.unanswered.note(order, slot);
      // Later failures say nothing new.
      if (isFirst) this.options.onError(error);
    }
  }

  /** Asks again about agents of this worker that an open order may take. */
  private askAgain(): void {
    const here = new Set(this.agents.slotsWhere(() => true));
    for (const { order, slot } of this.unanswered.take())
      if (here.has(slot) && this.watched.has(order.id) && this.isNews(order, slot))
        void this.askOrNote(order, slot, false);
  }

  /** One script decides whether the order still takes targets. Only then is the agent a target. */
  private async serveIfOpen(order: Order, slot: AgentSlot): Promise<void> {
    // The claim is under way: the slot comes here again when it was granted.
    if (slot.claimedAt === undefined) return;
    const taken = await this.takes(order, slot);
    if (!taken) this.watched.delete(order.id);
    else if (this.thaws.isOver(order)) await this.reports.neverHeld(order, [slot]);
    else this.serve(order, (one) => one === slot && this.isNews(order, one));
  }

  /** @throws BelayError OUTCOME_UNKNOWN · CORRUPT_RECORD */
  private async takes(order: Order, slot: AgentSlot): Promise<boolean> {
    const target = this.reports.target(slot, 'pending');
    const ask = async (): Promise<boolean> => this.orders.addTargets(order.id, [target], false, slot.graceMs);
    try {
      return await ask().catch(async (error: unknown) => {
        if (!(error instanceof NotFoundError)) throw error;
        // A failover lost the order, or it is so old that retention removed it.
        return (await this.orders.again(order.id)) !== undefined && ask();
      });
    } catch (error) {
      throw isBelayError(error) ? error : unread(order, slot, error);
    }
  }

  /** An agent without matching labels may be frozen too, when its execution was frozen as a whole. */
  private takesOff(order: Order, slot: AgentSlot): boolean {
    return order.kind === 'thaw' && slot.holds(holdOf(order));
  }

  private covers(order: Order, slot: AgentSlot): boolean {
    const { agentId, executionId, workerId, pool, labels } = slot;
    return scopeCovers(order.scope, { agentId, executionId, workerId, pool, labels });
  }

  /** Whether the agent has not been served by this order yet. */
  private isNews(order: Order, slot: AgentSlot): boolean {
    return !slot.served.has(order.id);
  }

  private serve(order: Order, matches: (slot: AgentSlot) => boolean): number {
    if (order.kind !== 'kill') return this.hold(order, matches);
    return this.agents.stopWhere(
      (slot) => {
        if (!matches(slot)) return false;
        slot.served.set(order.id, { order, afterMs: this.sincePlaced(order) });
        return true;
      },
      {
        reason: order.reason,
        mode: order.mode,
        by: order.by,
        order,
        endsAs: 'killed',
        ...(order.graceMs === undefined ? {} : { graceMs: order.graceMs }),
      },
    );
  }

  /** Freezes or thaws, and reports each tree once its processes were seen stopped, or running. */
  private hold(order: Order, matches: (slot: AgentSlot) => boolean): number {
    const hold = holdOf(order);
    const still: AgentSlot[] = [];
    const taken = (slot: AgentSlot): boolean => {
      if (!matches(slot)) return false;
      slot.served.set(order.id, { order, afterMs: this.sincePlaced(order) });
      if (!isUndone(order, slot)) return true;
      still.push(slot);
      return false;
    };
    const results =
      order.kind === 'freeze'
        ? this.agents.freezeWhere(taken, hold, order.id)
        : this.agents.thawWhere(taken, hold);
    for (const result of [...results, ...still.map(async (slot) => ({ slot, frozen: slot.isStill }))])
      void result.then(async (held) => this.tellHeld(order, held)).catch(this.options.onError);
    return results.length;
  }

  private async tellHeld(order: Order, held: HoldResult): Promise<void> {
    const { slot, error } = held;
    if (order.kind !== 'freeze' || error === undefined) this.unfrozen.done(order, slot);
    // Later failures say nothing new.
    else if (!this.unfrozen.note(order, slot)) return;
    await this.reports.held(order, held);
  }

  /** Tries failed freezes again. The freeze of an agent that ends, or that a thaw reached, is over. */
  private freezeAgain(): void {
    const here = new Set(this.agents.slotsWhere(() => true));
    const isOver = (order: Order, slot: AgentSlot): boolean =>
      !here.has(slot) || slot.cause !== undefined || !slot.holds(holdOf(order));
    for (const { order, slot } of this.unfrozen.due(isOver))
      for (const result of this.agents.freezeWhere((one) => one === slot, holdOf(order), order.id))
        void result.then(async (held) => this.tellHeld(order, held)).catch(this.options.onError);
  }

  /** The time since the placing of the order, by the server's clock as this worker knows it. Milliseconds. */
  private sincePlaced(order: Order): number {
    return Math.max(0, this.valkey.clock.now() - order.placedAt);
  }

  /** The number of orders seen that are not known to be over. */
  get watching(): number {
    return this.watched.size;
  }

  stop(): void {
    for (const subscription of this.subscriptions.splice(0)) subscription.unsubscribe();
    this.subscriber.stop();
    this.reports.stop();
  }
}

/** Whether the order is a thaw that was heard after a later freeze with the same hold, and so must not end that hold. */
function isUndone({ kind, seq, ...thaw }: Order, { served }: AgentSlot): boolean {
  if (kind !== 'thaw') return false;
  const hold = holdOf(thaw);
  return [...served.values()].some(
    ({ order }) => order.kind === 'freeze' && holdOf(order) === hold && isBefore(seq, order.seq),
  );
}

function unread({ id }: Order, { agentId }: AgentSlot, error: unknown): BelayError {
  const why = error instanceof Error ? error.message : String(error);
  return new BelayError(
    'CORRUPT_RECORD',
    `The order ${id} covers ${agentId}, and its record does not say whether it is over: ${why}. Look with: belay receipt ${id}`,
    { cause: error },
  );
}

function unheard(message: string): BelayError {
  return new BelayError(
    'CORRUPT_RECORD',
    `A message on the doorbell is not an order: ${message.slice(0, 200)}`,
  );
}
