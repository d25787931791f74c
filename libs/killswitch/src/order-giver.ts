import {
  actorOf,
  BelayError,
  isBelayError,
  NotFoundError,
  roleOf,
  type Order,
  type Reach,
  type Scope,
  type Signature,
} from '#libs/contracts';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { isTransient, retryTransient } from '#libs/valkey';
import { within } from '#libs/service';
import { ulid } from 'ulid';
import type { BestEffort } from './best-effort';
import { newLatch, type LatchStore } from './latch-store';
import type { OrderRequest } from './order-request';
import { targetOf } from './order-receipt';
import type { OrderStore, PlacedOrder } from './order-store';
import type { OrderTargets } from './order-targets';
import type { Receipts } from './receipts';
import type { ScopeResolver } from './scope-resolver';
import { NEVER_HELD, outcomeFor } from './target-outcome';

/** The effect of an order on one execution. */
interface Halted {
  readonly id: string;
  /** The execution began after the order, so the order leaves it alone. */
  readonly isSpared: boolean;
  /** This order stopped it, and no other. */
  readonly isStopped: boolean;
}

/** The result of a look at a scope. */
interface Found {
  readonly reach?: Reach;
  /** The epoch of the execution that the scope names. */
  readonly epoch: number | 'unknown';
}

/** The bound on looking up a scope's names: a kill does not wait for a shard that does not answer. Milliseconds. */
export const LOOK_UP_MS = 500;

/** The parts that place an order and carry it out. */
export interface OrderGiverParts {
  readonly lifecycle: LifecycleService;
  readonly dag: DagExecutor;
  readonly orders: OrderStore;
  readonly latches: LatchStore;
  readonly scopes: ScopeResolver;
  readonly targets: OrderTargets;
  readonly receipts: Receipts;
  readonly each: BestEffort;
}

/** Places orders and carries out the orchestrator's part of them. */
export class OrderGiver {
  constructor(private readonly parts: OrderGiverParts) {}

  /**
   * Places an order and carries out the orchestrator's part of it. Resolves when the order is durable, announced, and its
   * targets are named. @throws NotFoundError when the scope names something that does not exist
   */
  async give(request: OrderRequest): Promise<Order> {
    const found = await this.lookUp(request.scope);
    const { order, replicated, latchLost } = await this.place(request, found);
    // If this fails, the next sweep carries the order out: it is durable and announced.
    await retryTransient(async () => this.carryOut(order));
    await replicated;
    if (latchLost)
      throw new BelayError(
        'CORRUPT_RECORD',
        `The kill was placed as ${order.id}, but without its latch: the list of latches cannot be written. Look with: belay quarantine`,
        { details: { orderId: order.id } },
      );
    return order;
  }

  /**
   * Whether the scope names something that exists, how much had begun there, and the epoch of an execution. An order for an
   * unknown name must leave no trace. One round trip. @throws NotFoundError
   */
  private async lookUp(scope: Scope): Promise<Found> {
    const { scopes } = this.parts;
    const look = retryTransient(async () =>
      // The epoch first: an order with an older epoch may reach a retry, but one with a newer epoch must not miss it.
      Promise.all([scopes.epochOf(scope), scopes.reachOf(scope), scopes.assertKnown(scope)]),
    );
    look.catch(() => undefined);
    try {
      const [epoch = 'unknown', reach] = (await within(look, LOOK_UP_MS)) ?? [];
      return { epoch, ...(reach === undefined ? {} : { reach }) };
    } catch (error) {
      if (error instanceof NotFoundError) throw error;
      return { epoch: 'unknown' };
    }
  }

  private async place(request: OrderRequest, { reach, epoch }: Found): Promise<PlacedOrder> {
    const { kind = 'kill', scope, mode = 'graceful', reason = 'killswitch', by, graceMs, note } = request;
    const id = `ord_${ulid()}`;
    const latch =
      request.latch === true
        ? newLatch(kind === 'freeze' ? 'freeze' : 'latch', scope, {
            by,
            note,
            orderId: id,
            releaseNeeds: request.releaseNeeds,
            ...roleOf(request),
          })
        : undefined;
    return this.parts.orders.place(
      {
        id,
        kind,
        scope,
        mode,
        reason,
        by,
        ...roleOf(request),
        ...(graceMs === undefined ? {} : { graceMs }),
        ...(note === undefined ? {} : { note }),
        ...(latch === undefined ? {} : { latchId: latch.id }),
        ...(latch?.releaseNeeds === undefined ? {} : { releaseNeeds: latch.releaseNeeds }),
        ...(reach === undefined ? {} : { reach }),
      },
      latch,
      epoch,
    );
  }

  /**
   * The orchestrator's part of an order: it keeps everything in scope from starting, then names the live agents as targets.
   * Repeatable; the sweep repeats it for an order whose orchestrator died.
   */
  async carryOut(order: Order): Promise<void> {
    const { kind, scope } = order;
    if (await this.isSuperseded(order)) return this.settleSuperseded(order);
    const reach = await this.reachOf(order);
    const executions = kind === 'thaw' ? [] : await this.parts.scopes.executions(scope, order.id);
    const halted: Halted[] = [];
    const unanswered: Error[] = [];
    await this.parts.each(executions, async (id) => {
      try {
        halted.push(await this.haltOne(id, order, reach));
      } catch (error) {
        if (isUnanswered(error)) unanswered.push(error);
        throw error;
      }
    });
    // Without its targets the order is carried out again by the sweep: no other process would halt those executions.
    const [first] = unanswered;
    if (first !== undefined) throw first;
    const held = halted.filter(({ isSpared }) => !isSpared).map(({ id }) => id);
    const named = await this.parts.targets.named(order, held, reach);
    const stopped = halted.filter(({ isStopped }) => isStopped).map(({ id }) => id);
    await this.parts.orders.addTargets(
      order.id,
      named.map((agent) => targetOf(agent, 'pending')),
      {
        reach,
        stopped,
        ...(kind === 'thaw' ? {} : await this.parts.targets.warn(scope, executions.length + named.length)),
      },
      named.reduce((longest, { graceMs = 0 }) => Math.max(longest, graceMs), 0),
    );
    await this.parts.orders.ring(
      order,
      named.map((agent) => agent.id),
    );
    if (named.some((agent) => outcomeFor(order, agent).outcome === 'unconfirmed'))
      await this.parts.receipts.repair(order.id);
    if (kind === 'kill') await this.parts.each(held, async (id) => this.parts.dag.drive(id));
  }

  /**
   * The order's reach: the counts of all that had begun when the order was asked for, or else when its targets were first
   * named. Counts and not times, since the clock of a shard and the clock of the orders' placing may differ, and each may step
   * (ADR 0015).
   */
  private async reachOf(order: Order): Promise<Reach> {
    const reach =
      order.reach ??
      (await this.parts.orders.reach(order.id)) ??
      (await this.parts.lifecycle.agents.beginnings());
    this.parts.orders.keepReach(order, reach);
    return reach;
  }

  private async haltOne(id: string, order: Order, reach: Reach): Promise<Halted> {
    const { kind, by, note } = order;
    const said = note === undefined ? {} : { note };
    if (kind === 'kill') return this.stopOne(id, order, reach);
    const halted = { id, isSpared: false, isStopped: false };
    // The orchestrator that placed it has paused the execution. A second pause could come after somebody resumed it.
    if (order.scope.type === 'execution') return halted;
    // An execution that ended meanwhile, or has not begun, needs no pause.
    await this.parts.lifecycle.executions
      .pause(id, {
        mode: 'freeze',
        actor: by,
        ...said,
        ...(order.latchId === undefined ? {} : { heldBy: order.latchId }),
      })
      .catch((error: unknown) => {
        if (isUnanswered(error)) throw error;
      });
    return halted;
  }

  private async stopOne(id: string, order: Order, reach: Reach): Promise<Halted> {
    const { reason, note, id: orderId } = order;
    const count = reach[this.parts.lifecycle.valkey.keys.tagOf(id)];
    const request = {
      reason,
      orderId,
      ...actorOf(order),
      ...(note === undefined ? {} : { note }),
      ...(count === undefined ? {} : { reach: count }),
    };
    let answer = await this.parts.lifecycle.executions.stop(id, request);
    const { orderId: other } = answer;
    if (answer.state === 'stopping' && other !== undefined && other !== orderId) {
      // A failover lost the other order. The record must name an order whose receipt can be read.
      if ((await this.parts.orders.stateIfKnown(other)) === undefined)
        answer = await this.parts.lifecycle.executions.stop(id, { ...request, replaces: other });
    }
    return {
      id,
      isSpared: answer.spared === true,
      isStopped: answer.spared !== true && answer.orderId === orderId,
    };
  }

  /**
   * Whether the order is a freeze whose latch was released, or whose execution was resumed. It must not be carried out any
   * more.
   */
  async isSuperseded({ kind, scope, latchId }: Order): Promise<boolean> {
    if (kind !== 'freeze') return false;
    if (latchId !== undefined) return !(await this.parts.latches.list()).some(({ id }) => id === latchId);
    return scope.type === 'execution' && !(await this.isFrozen(scope.executionId));
  }

  /**
   * Whether the record says that the execution is paused by a freeze of its own. A freeze with a latch is another: its own order
   * freezes the processes, and the release of the latch thaws only those of that order.
   */
  async isFrozen(executionId: string): Promise<boolean> {
    const { executions } = this.parts.lifecycle;
    const { state, frozen } = await executions.get(executionId);
    if (state !== 'paused' || frozen !== true) return false;
    return (await executions.pausingLatch(executionId)) === undefined;
  }

  /** Freezes the processes of an execution that was paused. Repeatable. */
  async freeze(executionId: string, said: Signature & { readonly note?: string }): Promise<Order> {
    return this.give({ kind: 'freeze', scope: { type: 'execution', executionId }, ...said });
  }

  /**
   * Thaws the trees of a resumed execution. If the execution was frozen again in between, the thaw may come after that freeze
   * in the log and end it, so another freeze is placed. Repeatable.
   */
  async thaw(executionId: string, said: Signature & { readonly note?: string }): Promise<Order> {
    const { executions } = this.parts.lifecycle;
    const scope = { type: 'execution', executionId } as const;
    const thawId = ulid();
    await executions.thawBegins(executionId, thawId);
    const thaw = await this.give({ kind: 'thaw', scope, ...said });
    await this.freezeIfFrozen(executionId);
    await executions.thawLooked(executionId, thawId);
    return thaw;
  }

  /**
   * Orders the freeze of an execution whose record says that it is frozen. Repeatable: a freeze that no thaw has followed is
   * joined, and no other is placed. @throws NotFoundError
   */
  async freezeIfFrozen(executionId: string): Promise<void> {
    if (await this.isFrozen(executionId)) await this.freeze(executionId, { by: 'belay' });
  }

  /** Lets frozen trees go on. Trees that the order had still to reach were never frozen. */
  async settleSuperseded(order: Order): Promise<void> {
    const { scope, latchId } = order;
    const { targets, resolvedAt } = await this.parts.orders.receipt(order.id);
    const open = targets.filter(({ outcome }) => outcome === 'pending' || outcome === 'failed');
    // Done before: only a proof can settle the missing targets.
    if (resolvedAt !== undefined && open.length === 0) return;
    // A release orders the thaw of its latch itself. The thaw of a resume may have been placed before the freeze.
    if (latchId === undefined && scope.type === 'execution')
      await this.thaw(scope.executionId, { by: 'belay' });
    await this.parts.orders.addTargets(order.id, [], true);
    await this.parts.each(open, async (target) =>
      this.parts.orders.report(order.id, { ...target, outcome: 'thawed', detail: NEVER_HELD }),
    );
  }
}

/** Whether the server was away for longer than the call waited for it. */
const isUnanswered = (error: unknown): error is Error =>
  isTransient(error) || (isBelayError(error) && error.code === 'OUTCOME_UNKNOWN');
