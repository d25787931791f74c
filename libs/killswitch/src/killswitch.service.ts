import {
  BelayError,
  EXECUTION_MACHINE,
  isEnded,
  isWide,
  NotFoundError,
  type AgentRecord,
  type BelayEvent,
  type Latch,
  type Order,
  type Reach,
  type OrderState,
  type Receipt,
  type Scope,
  type ScopeWarning,
} from '#libs/contracts';
import type { DagExecutor, StopNeeded } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { isCorrupt, patiently, within, type ChangeFeed } from '#libs/valkey';
import type { Subscription } from 'rxjs';
import { ulid } from 'ulid';
import { ExecutionStops } from './execution-stops';
import { Holds } from './holds';
import { newLatch, type LatchStore } from './latch-store';
import { targetOf, type OrderStore, type PlacedOrder } from './order-store';
import { requireTimeout } from './require-timeout';
import { outcomeFor } from './target-outcome';
import type { OrderRequest } from './order-request';
import { ScopeResolver } from './scope-resolver';

export interface DryRun {
  readonly targets: readonly { agentId: string; executionId: string; nodeId: string; workerId: string }[];
  readonly executions: readonly string[];
  /** Of a selector that nothing meets. */
  readonly warning?: ScopeWarning;
}

export interface KillswitchOptions {
  /** How long an order's receipt may stay open before it is closed as incomplete. Milliseconds. */
  readonly proofLimitMs: number;
  /** The grace of agents for which neither an order nor their spec says one. Milliseconds; default 0. */
  readonly graceMs?: number;
  readonly onError?: (error: unknown) => void;
}

/** An order's effect on one execution. */
interface Halted {
  readonly id: string;
  /** It began after the order: it is left alone. */
  readonly isSpared: boolean;
  /** By this order, and no other. */
  readonly isStopped: boolean;
}

/** Executions acted on at a time. */
const AT_A_TIME = 32;
/** Stopping executions of a shard that one sweep looks at, while orders are overdue. */
const MOST_STOPPING = 1_000;
/** The bound on looking up what a scope names: a kill does not wait for a shard that does not answer. Milliseconds. */
const LOOK_UP_MS = 500;
/** A worker that has not reported by then may have died between an end and its report. Milliseconds. */
const REPAIR_AFTER_MS = 900;

/**
 * Gives orders and completes their receipts. An order is durable and announced by one script; from there the workers
 * begin by themselves, and everything here can be repeated by any other orchestrator from what is stored.
 */
export class KillswitchService {
  private subscription: Subscription | undefined;
  private renewals: Subscription | undefined;
  private recalling: Promise<void> | undefined;
  private recallAgain = false;
  /** Open orders, and since when this process has seen them: monotonic, since clocks of two machines differ. */
  private readonly openSince = new Map<string, number>();
  private readonly scopes: ScopeResolver;
  /** Pause and resume, freeze and thaw. */
  readonly holds: Holds;
  /** Stops that are waited for. */
  readonly stops: ExecutionStops;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    readonly orders: OrderStore,
    readonly latches: LatchStore,
    private readonly feed: ChangeFeed,
    private readonly options: KillswitchOptions,
  ) {
    this.scopes = new ScopeResolver(lifecycle);
    this.holds = new Holds(lifecycle, dag, orders, latches, this);
    this.stops = new ExecutionStops(lifecycle, orders, feed, this);
  }

  /** Answers the executions' own need for a stop: a node failed for good, a deadline, a budget, an abort signal. */
  start(): void {
    this.subscription ??= this.dag.stopNeeded$.subscribe((stop) => {
      this.stopNeeded(stop).catch((error: unknown) => this.options.onError?.(error));
    });
    this.renewals ??= this.lifecycle.valkey.renewed$.subscribe(() => void this.recall());
  }

  /** An order of its own, unless the one its record names is open. An id that no order has is no order's. */
  private async stopNeeded({ executionId, reason, by }: StopNeeded): Promise<void> {
    const record = await this.lifecycle.executions.get(executionId).catch((error: unknown) => {
      if (isCorrupt(error)) return undefined;
      throw error;
    });
    if (record !== undefined && isEnded(EXECUTION_MACHINE, record.state)) return;
    if (record?.orderId !== undefined && (await this.stateOf(record.orderId)) === 'open') return;
    await this.give({ scope: { type: 'execution', executionId }, reason, by });
  }

  /** Undefined: nobody has it. */
  private async stateOf(orderId: string): Promise<OrderState | undefined> {
    return this.orders.state(orderId).catch((error: unknown) => {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    });
  }

  stopListening(): void {
    this.subscription?.unsubscribe();
    this.subscription = undefined;
    this.renewals?.unsubscribe();
    this.renewals = undefined;
  }

  /**
   * After a failover, which may have lost what was written last: the orders and latches this process knows of the last
   * minute are stored again if they are gone, and its own kills are carried out again. Calls during a recall share one
   * more. Never rejects.
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
          // One that is over must not be done again: its execution may have been retried.
          if ((await this.orders.state(order.id)) === 'open') await this.carryOut(order);
        });
      } catch (error) {
        this.options.onError?.(error);
      }
    }
  }

  /** The agents that an order for that scope would reach now. Changes nothing. @throws NotFoundError */
  async dryRun(scope: Scope): Promise<DryRun> {
    await this.scopes.assertKnown(scope);
    const executions = await this.scopes.executions(scope);
    const live = await this.scopes.liveAgents(scope);
    const whole = scope.type === 'selector' ? await this.liveOf(executions) : [];
    const agents = new Map([...live, ...whole].map((agent) => [agent.id, agent]));
    return {
      targets: [...agents.values()].map(({ id, executionId, nodeId, owner }) => ({
        agentId: id,
        executionId,
        nodeId,
        workerId: owner,
      })),
      executions,
      ...(await this.warn(scope, agents.size + executions.length)),
    };
  }

  private async warn(scope: Scope, found: number): Promise<{ warning?: ScopeWarning }> {
    const warning = found > 0 ? undefined : await this.scopes.warningOf(scope);
    return warning === undefined ? {} : { warning };
  }

  /**
   * Places an order and carries out our part of it. Resolves when the order is durable, announced, and its targets are
   * named. @throws NotFoundError when the scope names what does not exist
   */
  async give(request: OrderRequest): Promise<Order> {
    const { order, replicated, latchLost } = await this.place(request, await this.lookUp(request.scope));
    // On failure the next sweep does it: the order itself is durable and announced.
    await patiently(async () => this.carryOut(order));
    await replicated;
    if (latchLost)
      throw new BelayError(
        'CORRUPT_RECORD',
        `The kill was given as ${order.id}, but without its latch: the list of latches cannot be written. See to it with: belay quarantine`,
        { details: { orderId: order.id } },
      );
    return order;
  }

  /**
   * Whether it names what exists, and how much had begun there: an order for what nobody knows leaves no trace. One round
   * trip. @throws NotFoundError
   */
  private async lookUp(scope: Scope): Promise<Reach | undefined> {
    const look = patiently(async () =>
      Promise.all([this.scopes.assertKnown(scope), this.scopes.reachOf(scope)]),
    );
    look.catch(() => undefined);
    try {
      const found = await within(look, LOOK_UP_MS);
      return found?.[1];
    } catch (error) {
      if (error instanceof NotFoundError) throw error;
      return undefined;
    }
  }

  private async place(request: OrderRequest, reach: Reach | undefined): Promise<PlacedOrder> {
    const { kind = 'kill', scope, mode = 'graceful', reason = 'killswitch', by, graceMs, note } = request;
    const id = `ord_${ulid()}`;
    const latch =
      request.latch === true
        ? newLatch(kind === 'freeze' ? 'freeze' : 'latch', scope, { by, note, orderId: id })
        : undefined;
    return this.orders.place(
      {
        id,
        kind,
        scope,
        mode,
        reason,
        by,
        ...(graceMs === undefined ? {} : { graceMs }),
        ...(note === undefined ? {} : { note }),
        ...(latch === undefined ? {} : { latchId: latch.id }),
        ...(reach === undefined ? {} : { reach }),
      },
      latch,
    );
  }

  /**
   * Our part of an order: what is in scope starts nothing any more, then its live agents are named as targets.
   * Repeatable; the sweep does it again for an order whose giver died.
   */
  async carryOut(order: Order): Promise<void> {
    const { kind, scope } = order;
    if (await this.holds.isOvertaken(order)) return this.holds.settleOvertaken(order);
    const reach = await this.reachOf(order);
    const executions = kind === 'thaw' ? [] : await this.scopes.executions(scope);
    const halted: Halted[] = [];
    await this.each(executions, async (id) => halted.push(await this.haltOne(id, order, reach)));
    const held = halted.filter(({ isSpared }) => !isSpared).map(({ id }) => id);
    const named = await this.targetsOf(order, held, reach);
    const stopped = halted.filter(({ isStopped }) => isStopped).map(({ id }) => id);
    await this.orders.addTargets(
      order.id,
      named.map((agent) => targetOf(agent, 'pending')),
      {
        reach,
        stopped,
        ...(kind === 'thaw' ? {} : await this.warn(scope, executions.length + named.length)),
      },
      named.reduce((longest, { graceMs = 0 }) => Math.max(longest, graceMs), 0),
    );
    await this.orders.ring(
      order,
      named.map((agent) => agent.id),
    );
    if (named.some((agent) => outcomeFor(kind, agent) === 'unconfirmed')) await this.repair(order.id);
    if (kind === 'kill') await this.each(held, async (id) => this.dag.drive(id));
  }

  /**
   * The order's reach: everything that had begun when it was asked, or else when its targets were first named. By counts,
   * since the clock of a shard and the one orders are placed by are two, and each may step.
   */
  private async reachOf(order: Order): Promise<Reach> {
    const reach =
      order.reach ?? (await this.orders.reach(order.id)) ?? (await this.lifecycle.agents.beginnings());
    this.orders.keepReach(order, reach);
    return reach;
  }

  private async haltOne(id: string, order: Order, reach: Reach): Promise<Halted> {
    const { kind, by, note } = order;
    const said = note === undefined ? {} : { note };
    if (kind === 'kill') return this.stopOne(id, order, reach);
    const halted = { id, isSpared: false, isStopped: false };
    // Its giver has paused it: a second time could come after somebody resumed it.
    if (order.scope.type === 'execution') return halted;
    // One that ended meanwhile, or has not begun, has nothing to pause.
    await this.lifecycle.executions
      .pause(id, {
        mode: 'freeze',
        actor: by,
        ...said,
        ...(order.latchId === undefined ? {} : { heldBy: order.latchId }),
      })
      .catch(() => undefined);
    return halted;
  }

  private async stopOne(id: string, order: Order, reach: Reach): Promise<Halted> {
    const { reason, by, note, id: orderId } = order;
    const count = reach[this.lifecycle.valkey.keys.tagOf(id)];
    const request = {
      reason,
      orderId,
      actor: by,
      ...(note === undefined ? {} : { note }),
      ...(count === undefined ? {} : { reach: count }),
    };
    let answer = await this.lifecycle.executions.stop(id, request);
    const { orderId: other } = answer;
    if (answer.state === 'stopping' && other !== undefined && other !== orderId) {
      // A failover lost it: the record must name one whose receipt can be read.
      if ((await this.stateOf(other)) === undefined)
        answer = await this.lifecycle.executions.stop(id, { ...request, replaces: other });
    }
    return {
      id,
      isSpared: answer.spared === true,
      isStopped: answer.spared !== true && answer.orderId === orderId,
    };
  }

  /**
   * The agents an order must be confirmed for: the live ones, then those it ended before they could be read. A wide
   * order takes agents within its reach, or that belong to an execution it holds; while it is open, workers name
   * what they claimed later.
   */
  private async targetsOf(order: Order, executions: readonly string[], reach: Reach): Promise<AgentRecord[]> {
    const { keys } = this.lifecycle.valkey;
    const inScope = new Set(executions);
    // In this order on the shard's connection: what leaves the first in between is in the second.
    const [live, whole, ended, unproved] = await Promise.all([
      this.scopes.liveAgents(order.scope),
      // Labels of a node may take it out of a selector that its execution is in: stopped or frozen as a whole, it is all in.
      order.scope.type === 'selector' ? this.liveOf(executions) : [],
      this.lifecycle.agents.endedBy(order.id),
      order.kind === 'kill' ? this.lifecycle.agents.unproved() : [],
    ]);
    const wasThere = (agent: AgentRecord): boolean =>
      !isWide(order.scope) ||
      inScope.has(agent.executionId) ||
      (agent.born ?? 0) <= (reach[keys.tagOf(agent.executionId)] ?? Number.MAX_SAFE_INTEGER);
    const named = new Map<string, AgentRecord>();
    for (const agent of [...live, ...whole]) if (wasThere(agent)) named.set(agent.id, agent);
    for (const agent of ended) named.set(agent.id, agent);
    // Lost with their worker and never seen dead: they may still run, so no receipt is complete without them.
    for (const agent of unproved)
      if (this.scopes.covers(order.scope, agent) || inScope.has(agent.executionId))
        named.set(agent.id, agent);
    return [...named.values()];
  }

  private async liveOf(executions: readonly string[]): Promise<AgentRecord[]> {
    const found: AgentRecord[] = [];
    await this.each(executions, async (id) => found.push(...(await this.lifecycle.agents.liveOf(id))));
    return found;
  }

  /** The receipt once it is complete, or as it stands when the limit has passed. */
  async waitForReceipt(orderId: string, waitMs?: number): Promise<Receipt> {
    const limitMs = await patiently(async () => this.limitOf(orderId));
    const timeoutMs = waitMs ?? limitMs;
    const concerns = ({ entity, data }: BelayEvent): boolean =>
      entity === 'order' && (data as { orderId?: string } | undefined)?.orderId === orderId;
    let repairedAt = performance.now();
    const look = async (): Promise<Receipt | undefined> => {
      const state = await this.orders.state(orderId).catch(async (error: unknown) => {
        // Lost by a failover while we wait for it, or never there.
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

  /**
   * A person takes it on themselves that what is missing will not be confirmed. The lost attempts it names are written off:
   * no later order asks for them, and a retry may run them again. Repeatable. @throws NotFoundError
   */
  async close(orderId: string, by: string, note: string): Promise<void> {
    await this.orders.close(orderId, by, note);
    const { closed, targets } = await this.orders.receipt(orderId);
    if (closed === undefined) return;
    const lost = targets.filter(({ outcome }) => outcome === 'unconfirmed');
    await this.each(lost, async ({ agentId }) => this.lifecycle.agents.writeOff(agentId, { orderId, by }));
  }

  /** A latch on its own: nothing in its scope starts any more. Resolves when that holds. @throws NotFoundError */
  async engage(request: { scope: Scope; by: string; note?: string }): Promise<Latch> {
    const { scope } = request;
    await this.scopes.assertKnown(scope);
    const latch = await this.latches.engage(newLatch('latch', scope, request));
    if (scope.type !== 'selector') return latch;
    // It holds already: what only adds to the answer must not make it look as if it did not.
    const plan = await within(
      this.dryRun(scope).catch(() => undefined),
      LOOK_UP_MS,
    );
    return plan?.warning === undefined ? latch : { ...latch, warning: plan.warning };
  }

  /** Completes what the giver of an order, or a worker, left undone. One pass over the open orders. */
  async sweep(): Promise<void> {
    // One of them that meets what it cannot read must not keep the others from being done (R31).
    const steps = [async () => this.latches.repair(), async () => this.holds.sweep()];
    for (const step of steps) await this.each([step], async (act) => act());
    const open = await this.orders.open();
    const known = new Set(open.map(({ id }) => id));
    for (const id of this.openSince.keys()) if (!known.has(id)) this.openSince.delete(id);
    const overdue = new Set<string>();
    await this.each(open, async (order) => {
      if ((await this.complete(order)) && order.kind === 'kill') overdue.add(order.id);
    });
    await this.giveUp(overdue);
  }

  /** Does what is left to do for an order. True: its limit has passed and its receipt is incomplete. */
  private async complete(order: Order): Promise<boolean> {
    const { state, isResolved } = await this.orders.progress(order.id);
    if (!isResolved) await this.carryOut(order);
    else if (await this.holds.isOvertaken(order)) await this.holds.settleOvertaken(order);
    await this.repair(order.id);
    if (state !== 'open') return true;
    const since = this.openSince.get(order.id) ?? performance.now();
    this.openSince.set(order.id, since);
    if (performance.now() - since <= (await this.limitOf(order.id))) return false;
    await this.orders.expire(order.id);
    return true;
  }

  /** The proof limit, and the longest grace of anything the order has to end: nothing is overdue while it has its grace. */
  private async limitOf(orderId: string): Promise<number> {
    const { proofLimitMs, graceMs = 0 } = this.options;
    const order = await this.orders.get(orderId);
    if (order?.kind !== 'kill' || order.mode === 'immediate') return proofLimitMs;
    return proofLimitMs + (order.graceMs ?? Math.max(graceMs, await this.orders.longestGrace(orderId)));
  }

  /** Executions that those orders stop, and that have agents nobody could prove dead, end as `failed`: of every scope. */
  private async giveUp(overdue: ReadonlySet<string>): Promise<void> {
    if (overdue.size === 0) return;
    const { redis, keys } = this.lifecycle.valkey;
    for (const tag of keys.tags()) {
      const ids = await redis.zrange(keys.shard(tag, 'idx:exe:stopping'), 0, String(MOST_STOPPING - 1));
      await this.each(ids, async (id) => {
        const orderId = await redis.hget(keys.execution(id), 'orderId');
        if (orderId !== null && overdue.has(orderId)) await this.stops.giveUp(id);
      });
    }
  }

  /** Some at a time; one that fails is told of (a corrupt record by the quarantine) and does not keep the others from being done (R31, R50). */
  async each<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
    for (let i = 0; i < items.length; i += AT_A_TIME)
      await Promise.all(
        items.slice(i, i + AT_A_TIME).map(async (item) =>
          act(item).catch((error: unknown) => {
            if (!(error instanceof NotFoundError) && !isCorrupt(error)) this.options.onError?.(error);
          }),
        ),
      );
  }

  /** A worker stores an agent's end before it reports it; when it died in between, the record has the evidence. */
  async repair(orderId: string): Promise<void> {
    const order = await this.orders.get(orderId);
    if (order === undefined) return;
    // A tree that could not be frozen in time may have ended since, or been thawed: it is among them too.
    const open = await this.orders.unconfirmed(orderId);
    for (const agent of await this.lifecycle.agents.many(open.map(({ agentId }) => agentId))) {
      const before = open.find(({ agentId }) => agentId === agent.id)?.outcome;
      const outcome = outcomeFor(order.kind, agent);
      if (outcome === 'pending' || outcome === before) continue;
      const lost = agent.reason === 'worker_lost';
      const detail =
        outcome === 'unconfirmed'
          ? `worker ${agent.owner} was lost; a lease that ran out is no proof`
          : lost
            ? `not by this order: it ended with worker ${agent.owner}, which was lost`
            : undefined;
      const target = this.orders.counted(targetOf(agent, outcome, detail));
      if (target.outcome !== before) await this.orders.report(orderId, target);
    }
  }
}
