import {
  EXECUTION_MACHINE,
  isEnded,
  plainScope,
  type ExecutionRecord,
  type JobScope,
  type Latch,
  type Order,
  type Receipt,
  type Scope,
  type ScopeWarning,
  type Signature,
  type SignedWith,
} from '#libs/contracts';
import type { DagExecutor, StopNeeded } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { isCorrupt, type ChangeFeed } from '#libs/valkey';
import { within } from '#libs/service';
import type { Subscription } from 'rxjs';
import { bestEffort, inTurn, type BestEffort } from './best-effort';
import { ExecutionStops } from './execution-stops';
import { PauseService } from './pause.service';
import { newLatch, type LatchStore } from './latch-store';
import { LOOK_UP_MS, OrderGiver } from './order-giver';
import type { OrderRequest } from './order-request';
import type { OrderStore } from './order-store';
import { OrderTargets, type DryRun } from './order-targets';
import { Receipts, type ReceiptLimits } from './receipts';
import { ScopeResolver } from './scope-resolver';
import { UnresolvedKills } from './unresolved-kills';

export interface KillswitchOptions extends ReceiptLimits {
  /** How many people must release the latch of a kill of everything that does not say it itself. Default: one. */
  readonly releaseNeeds?: number;
  readonly onError?: (error: unknown) => void;
}

/** While orders are overdue, one sweep looks at this many stopping executions of a shard. */
const MOST_STOPPING = 1_000;

/**
 * Places orders and completes their receipts. One script stores and announces an order. From there the workers begin by
 * themselves, and any other orchestrator can repeat all work of this service from the store.
 */
export class KillswitchService {
  private subscription: Subscription | undefined;
  private renewals: Subscription | undefined;
  private recalling: Promise<void> | undefined;
  private recallAgain = false;
  /** Open orders, and the monotonic time at which this process first saw each: clocks of two machines differ. */
  private readonly openSince = new Map<string, number>();
  private readonly scopes: ScopeResolver;
  private readonly each: BestEffort;
  private readonly targets: OrderTargets;
  private readonly receipts: Receipts;
  private readonly giver: OrderGiver;
  private readonly unresolved: UnresolvedKills;
  /** Pause and resume, freeze and thaw. */
  readonly holds: PauseService;
  /** Stops that are waited for. */
  readonly stops: ExecutionStops;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    readonly orders: OrderStore,
    readonly latches: LatchStore,
    feed: ChangeFeed,
    private readonly options: KillswitchOptions,
  ) {
    const each = (this.each = bestEffort(options.onError));
    const scopes = (this.scopes = new ScopeResolver(lifecycle));
    const targets = (this.targets = new OrderTargets(lifecycle, scopes));
    const receipts = (this.receipts = new Receipts(lifecycle, orders, feed, options));
    const giver = new OrderGiver({ lifecycle, dag, orders, latches, scopes, targets, receipts, each });
    this.giver = giver;
    this.unresolved = new UnresolvedKills(orders, giver);
    this.holds = new PauseService(lifecycle, dag, orders, latches, giver, receipts, each);
    this.stops = new ExecutionStops(lifecycle, orders, feed, giver, receipts);
  }

  /** Places the stops that executions need by themselves: a node failed for good, a deadline, a budget, an abort signal. */
  start(): void {
    this.subscription ??= this.dag.stopNeeded$.subscribe((stop) => {
      this.stopNeeded(stop).catch((error: unknown) => this.options.onError?.(error));
    });
    this.renewals ??= this.lifecycle.valkey.renewed$.subscribe(() => void this.recall());
  }

  /** Nest calls it, so that an application which imports the module places the stops that its executions need. */
  onApplicationBootstrap(): void {
    this.start();
  }

  /** Nest calls it after the drains, which may still need stops. */
  onApplicationShutdown(): void {
    this.stopListening();
  }

  /**
   * Places an order of its own, unless the order that the execution's record names is open. A wide kill that must still stop the
   * execution is carried out first. An id without an order counts as none.
   */
  private async stopNeeded({ executionId, reason, by }: StopNeeded): Promise<void> {
    let record = await this.recordOf(executionId);
    if (record !== undefined && !(await this.isAnswered(record)) && (await this.carryOutWide(record)))
      record = await this.recordOf(executionId);
    if (record !== undefined && (await this.isAnswered(record))) return;
    await this.placeOrder({ scope: { type: 'execution', executionId }, reason, by });
  }

  /** Undefined where the record cannot be read: such an execution can still be stopped (docs/failures.md). */
  private async recordOf(executionId: string): Promise<ExecutionRecord | undefined> {
    return this.lifecycle.executions.get(executionId).catch((error: unknown) => {
      if (isCorrupt(error)) return undefined;
      throw error;
    });
  }

  private async isAnswered({ state, orderId }: ExecutionRecord): Promise<boolean> {
    if (isEnded(EXECUTION_MACHINE, state)) return true;
    return orderId !== undefined && (await this.orders.stateIfKnown(orderId)) === 'open';
  }

  /** Reports a failure, which must not keep the execution from an order of its own. */
  private async carryOutWide(record: ExecutionRecord): Promise<boolean> {
    return this.unresolved.carryOutFor(record).catch((error: unknown) => {
      this.options.onError?.(error);
      return false;
    });
  }

  stopListening(): void {
    this.subscription?.unsubscribe();
    this.subscription = undefined;
    this.renewals?.unsubscribe();
    this.renewals = undefined;
  }

  /**
   * Repairs the loss of a failover: orders and latches of the last minute that this process knows are stored again if they are
   * gone, and its own kills are carried out again. Calls during a recall share one more recall. Never rejects.
   */
  async recall(): Promise<void> {
    this.recallAgain = true;
    this.recalling ??= this.recallAll().finally(() => (this.recalling = undefined));
    await this.recalling;
  }

  private async recallAll(): Promise<void> {
    while (this.recallAgain) {
      this.recallAgain = false;
      try {
        await this.latches.recall();
        await this.each(await this.orders.recall(), async (order) => {
          // An order that is over must not be carried out again: its execution may have been retried.
          if ((await this.orders.state(order.id)) === 'open') await this.carryOut(order);
        });
      } catch (error) {
        this.options.onError?.(error);
      }
    }
  }

  /** The agents that an order for that scope would reach now. Changes nothing. @throws NotFoundError */
  async dryRun(scope: Scope | JobScope): Promise<DryRun> {
    return this.targets.plan(plainScope(scope));
  }

  /**
   * Places an order and carries out the orchestrator's part of it. Resolves when the order is durable, announced, and its
   * targets are named. @throws NotFoundError when the scope names something that does not exist
   */
  async placeOrder(
    request: Omit<OrderRequest, 'scope'> & { readonly scope: Scope | JobScope },
  ): Promise<Order> {
    const { kind = 'kill', releaseNeeds } = request;
    const scope = plainScope(request.scope);
    const byDefault = kind === 'kill' && scope.type === 'all' ? this.options.releaseNeeds : undefined;
    const needs = releaseNeeds ?? byDefault;
    return this.giver.give({ ...request, scope, ...(needs === undefined ? {} : { releaseNeeds: needs }) });
  }

  /** The orchestrator's part of an order that was placed. Repeatable. */
  async carryOut(order: Order): Promise<void> {
    return this.giver.carryOut(order);
  }

  /** The receipt once it is complete, or as it is when the limit has passed. */
  async waitForReceipt(orderId: string, waitMs?: number): Promise<Receipt> {
    return this.receipts.waitFor(orderId, waitMs);
  }

  /**
   * A person declares that the missing confirmations will not come. The lost attempts that the order names are written off: no
   * later order waits for them, and a retry may run them again. Repeatable. @throws NotFoundError
   */
  async close(orderId: string, by: string, note: string, who: SignedWith = {}): Promise<void> {
    await this.orders.close(orderId, by, note, who);
    const { closed, targets } = await this.orders.receipt(orderId);
    if (closed === undefined) return;
    const lost = targets.filter(({ outcome }) => outcome === 'unconfirmed');
    await this.each(lost, async ({ agentId }) => this.lifecycle.agents.writeOff(agentId, { orderId, by }));
  }

  /**
   * Engages a latch without an order: nothing in its scope starts any more. Resolves when that is in force. @throws
   * NotFoundError
   */
  async engage(
    request: Signature & { readonly scope: Scope; readonly note?: string; readonly releaseNeeds?: number },
  ): Promise<Latch> {
    const { scope } = request;
    await this.scopes.assertKnown(scope);
    const latch = await this.latches.engage(newLatch('latch', scope, request));
    const warning = await this.warningOf(scope);
    return warning === undefined ? latch : { ...latch, warning };
  }

  /**
   * The warning that no work has those labels or that pool. Bounded, and never rejects, since the latch is in force already.
   */
  async warningOf(scope: Scope): Promise<ScopeWarning | undefined> {
    if (scope.type !== 'selector' && scope.type !== 'pool') return undefined;
    const plan = await within(
      this.dryRun(scope).catch(() => undefined),
      LOOK_UP_MS,
    );
    return plan?.warning;
  }

  /** Completes the work that a dead orchestrator or worker left undone. One pass over the open orders. */
  async sweep(): Promise<void> {
    // docs/architecture.md#a-record-that-cannot-be-read
    await inTurn(this.each, [async () => this.latches.repair(), async () => this.holds.sweep()]);
    const open = await this.orders.open();
    const known = new Set(open.map(({ id }) => id));
    for (const id of this.openSince.keys()) if (!known.has(id)) this.openSince.delete(id);
    const overdue = new Set<string>();
    await this.each(open, async (order) => {
      if ((await this.complete(order)) && order.kind === 'kill') overdue.add(order.id);
    });
    await this.giveUp(overdue);
  }

  /** Does the work that is left for an order. True: its limit has passed and its receipt is incomplete. */
  private async complete(order: Order): Promise<boolean> {
    const { state, isResolved } = await this.orders.progress(order.id);
    if (!isResolved) await this.carryOut(order);
    else if (await this.giver.isSuperseded(order)) await this.giver.settleSuperseded(order);
    await this.receipts.repair(order.id);
    if (state !== 'open') return true;
    const since = this.openSince.get(order.id) ?? performance.now();
    this.openSince.set(order.id, since);
    if (performance.now() - since <= (await this.receipts.limitOf(order.id))) return false;
    await this.orders.expire(order.id);
    return true;
  }

  /**
   * Ends the executions that those orders stop as `failed` if an agent could not be proved dead. Covers orders of every scope.
   */
  private async giveUp(overdue: ReadonlySet<string>): Promise<void> {
    if (overdue.size === 0) return;
    const { redis, keys } = this.lifecycle.valkey;
    for (const tag of keys.tags()) {
      const ids = await redis.zrange(keys.executionsIn(tag, 'stopping'), 0, String(MOST_STOPPING - 1));
      await this.each(ids, async (id) => {
        const orderId = await redis.hget(keys.execution(id), 'orderId');
        if (orderId !== null && overdue.has(orderId)) await this.stops.giveUp(id);
      });
    }
  }
}
