import {
  EXECUTION_MACHINE,
  isEnded,
  NotFoundError,
  type AgentRecord,
  type ExecutionRecord,
  type Order,
  type Receipt,
  type Scope,
  type StopMode,
  type StopReason,
  type StopResponse,
} from '#libs/contracts';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import type { Subscription } from 'rxjs';
import { ulid } from 'ulid';
import { outcomeFor, targetOf, type OrderStore } from './order-store';

export interface KillRequest {
  readonly scope: Scope;
  readonly mode?: StopMode;
  readonly graceMs?: number;
  readonly reason?: StopReason;
  readonly note?: string;
  readonly by: string;
}

export interface DryRun {
  readonly targets: readonly { agentId: string; executionId: string; nodeId: string; workerId: string }[];
  readonly executions: readonly string[];
}

export interface KillswitchOptions {
  /** How long an order's receipt may stay open before it is closed as incomplete. Milliseconds. */
  readonly proofLimitMs: number;
  readonly onError?: (error: unknown) => void;
}

const LIVE_STATES = ['idle', 'running', 'paused', 'stopping'] as const;

/**
 * Gives orders and completes their receipts. An order is durable and announced by one script; from there the workers
 * begin by themselves, and everything here can be repeated by any other orchestrator from what is stored.
 */
export class KillswitchService {
  private subscription: Subscription | undefined;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    readonly orders: OrderStore,
    private readonly feed: ChangeFeed,
    private readonly options: KillswitchOptions,
  ) {}

  /** Answers the executions' own need for a stop: a node failed for good, a deadline, a budget, an abort signal. */
  start(): void {
    this.subscription ??= this.dag.stopNeeded$.subscribe(({ executionId, reason, by }) => {
      this.kill({ scope: { type: 'execution', executionId }, reason, by }).catch((error: unknown) =>
        this.options.onError?.(error),
      );
    });
  }

  stopListening(): void {
    this.subscription?.unsubscribe();
    this.subscription = undefined;
  }

  /** Whom a kill of that scope would reach now. Changes nothing. @throws NotFoundError */
  async dryRun(scope: Scope): Promise<DryRun> {
    await this.assertKnown(scope);
    const agents = await this.liveAgents(scope);
    const executions = await this.executionsOf(scope, Number.MAX_SAFE_INTEGER);
    return {
      targets: agents.map(({ id, executionId, nodeId, owner }) => ({
        agentId: id,
        executionId,
        nodeId,
        workerId: owner,
      })),
      executions,
    };
  }

  /** Places the order and carries out our part of it. Resolves when the order is durable and its targets are named. */
  async kill(request: KillRequest): Promise<Order> {
    await this.assertKnown(request.scope);
    const { order } = await this.orders.place({
      id: `ord_${ulid()}`,
      kind: 'kill',
      scope: request.scope,
      mode: request.mode ?? 'graceful',
      reason: request.reason ?? 'killswitch',
      by: request.by,
      ...(request.graceMs === undefined ? {} : { graceMs: request.graceMs }),
      ...(request.note === undefined ? {} : { note: request.note }),
    });
    await this.carryOut(order);
    return order;
  }

  /**
   * Our part of an order: what is in scope starts nothing any more, then its live agents are named as targets.
   * Repeatable; the sweep does it again for an order whose giver died.
   */
  async carryOut(order: Order): Promise<void> {
    const { scope } = order;
    const executions = await this.executionsOf(scope, order.placedAt);
    const request = {
      reason: order.reason,
      orderId: order.id,
      actor: order.by,
      ...(order.note === undefined ? {} : { note: order.note }),
    };
    for (const id of executions) {
      await this.lifecycle.executions.stop(id, request);
    }
    const inScope = new Set(executions);
    const wide = scope.type === 'all' || scope.type === 'worker';
    const agents = (await this.liveAgents(scope)).filter(
      (agent) => !wide || agent.createdAt <= order.placedAt || inScope.has(agent.executionId),
    );
    await this.orders.addTargets(
      order.id,
      agents.map((agent) => targetOf(agent, 'pending')),
      true,
    );
    await this.orders.ring(
      order,
      agents.map((agent) => agent.id),
    );
    await Promise.all(executions.map(async (id) => this.dag.drive(id)));
  }

  /** The receipt once it is complete, or as it stands when the limit has passed. */
  async waitForReceipt(orderId: string, timeoutMs = this.options.proofLimitMs): Promise<Receipt> {
    const concerns = (event: { entity: string }) => event.entity === 'order' || event.entity === 'agent';
    return this.feed
      .until(
        async () => {
          await this.repair(orderId);
          const receipt = await this.orders.receipt(orderId);
          return receipt.state === 'open' ? undefined : receipt;
        },
        concerns,
        { timeoutMs, what: `The receipt of ${orderId}` },
      )
      .catch(async () => {
        await this.orders.close(orderId);
        return this.orders.receipt(orderId);
      });
  }

  /** Stops one execution and waits for its end, with the receipt (R19). An ended one answers what is stored (R20). */
  async stop(executionId: string, request: Omit<KillRequest, 'scope'>): Promise<StopResponse> {
    const before = await this.lifecycle.executions.get(executionId);
    if (isEnded(EXECUTION_MACHINE, before.state)) return this.response(before);
    const order = await this.kill({
      reason: 'user_abort',
      ...request,
      scope: { type: 'execution', executionId },
    });
    await this.waitForReceipt(order.id);
    const record = await this.waitForEnd(executionId);
    return this.response(record);
  }

  /** What stop answers, from the record alone: the response equals the record (R7). */
  async response(record: ExecutionRecord): Promise<StopResponse> {
    const receipt =
      record.orderId === undefined
        ? undefined
        : await this.orders.receipt(record.orderId).catch(() => undefined);
    const endedAt = record.stoppedAt ?? record.completedAt;
    return {
      status: record.state,
      executionId: record.id,
      ...(record.reason === undefined ? {} : { reason: record.reason }),
      finalCostUsd: record.costUsd,
      costEstimated: record.live > 0 || (receipt?.totals.unconfirmed ?? 0) > 0,
      ...(record.stoppedAt === undefined ? {} : { stoppedAt: record.stoppedAt }),
      summary: {
        nodesCompleted: record.nodes.completed,
        nodesFailed: record.nodes.failed,
        nodesTotal: record.nodes.total,
        durationMs: (endedAt ?? this.lifecycle.valkey.clock.now()) - (record.startedAt ?? record.createdAt),
      },
      ...(receipt === undefined ? {} : { receipt }),
    };
  }

  private async waitForEnd(executionId: string): Promise<ExecutionRecord> {
    const look = async (): Promise<ExecutionRecord | undefined> => {
      const record = await this.lifecycle.executions.get(executionId);
      return isEnded(EXECUTION_MACHINE, record.state) ? record : undefined;
    };
    return this.feed
      .until(look, (event) => event.executionId === executionId, {
        timeoutMs: 5_000,
        what: `The end of ${executionId}`,
      })
      .catch(async () => this.giveUp(executionId));
  }

  /** An agent could not be proved dead within the limit: the execution says so, it never says `stopped` (R51). */
  private async giveUp(executionId: string): Promise<ExecutionRecord> {
    const record = await this.lifecycle.executions.get(executionId);
    if (record.state === 'stopping' && record.live > 0) {
      const error = {
        code: 'UNCONFIRMED',
        message: 'Some agents could not be proved dead; see the receipt.',
      };
      await this.lifecycle.executions
        .transition(executionId, 'failed', { from: 'stopping', set: { error: JSON.stringify(error) } })
        .catch(() => undefined);
    }
    return this.lifecycle.executions.get(executionId);
  }

  /** Completes what the giver of an order, or a worker, left undone. One pass over the open orders. */
  async sweep(): Promise<void> {
    const now = this.lifecycle.valkey.clock.now();
    for (const order of await this.orders.open()) {
      const receipt = await this.orders.receipt(order.id);
      if (receipt.resolvedAt === undefined) await this.carryOut(order);
      await this.repair(order.id);
      if (receipt.state === 'open' && now - order.placedAt > this.options.proofLimitMs) {
        await this.orders.close(order.id);
        if (order.scope.type === 'execution') await this.giveUp(order.scope.executionId);
      }
    }
  }

  /** A worker stores an agent's end before it reports it; when it died in between, the record has the evidence. */
  private async repair(orderId: string): Promise<void> {
    const receipt = await this.orders.receipt(orderId);
    for (const target of receipt.targets) {
      if (target.outcome !== 'pending' && target.outcome !== 'unconfirmed') continue;
      const agent = await this.lifecycle.agents.get(target.agentId).catch(() => undefined);
      if (agent === undefined) continue;
      const outcome = outcomeFor(agent);
      if (outcome === 'pending' || outcome === target.outcome) continue;
      const detail =
        outcome === 'unconfirmed'
          ? `worker ${agent.owner} was lost; a lease that ran out is no proof`
          : undefined;
      await this.orders.report(orderId, targetOf(agent, outcome, detail));
    }
  }

  /** Executions an order stops as a whole: those that existed when it was placed. */
  private async executionsOf(scope: Scope, placedAt: number): Promise<string[]> {
    if (scope.type === 'execution') return [scope.executionId];
    return scope.type === 'all' ? this.liveExecutions(placedAt) : [];
  }

  private async liveExecutions(until: number): Promise<string[]> {
    const { redis, keys } = this.lifecycle.valkey;
    const lists = await Promise.all(
      keys
        .tags()
        .flatMap((tag) =>
          LIVE_STATES.map(async (state) =>
            redis.zrangebyscore(keys.shard(tag, `idx:exe:${state}`), '-inf', until),
          ),
        ),
    );
    return lists.flat();
  }

  private async liveAgents(scope: Scope): Promise<AgentRecord[]> {
    const { agents } = this.lifecycle;
    const isLive = (agent: AgentRecord) => agent.state === 'spawning' || agent.state === 'running';
    switch (scope.type) {
      case 'execution':
        return agents.liveOf(scope.executionId);
      case 'worker':
        return agents.ownedBy(scope.workerId);
      case 'agent':
        return [await agents.get(scope.agentId)].filter(isLive);
      case 'all':
        return agents.liveEverywhere();
    }
  }

  private async assertKnown(scope: Scope): Promise<void> {
    if (scope.type === 'execution') await this.lifecycle.executions.get(scope.executionId);
    else if (scope.type === 'agent') await this.lifecycle.agents.get(scope.agentId);
    else if (scope.type === 'worker') {
      const worker = await this.lifecycle.workers.get(scope.workerId);
      if (worker.id === '') throw new NotFoundError('worker', scope.workerId);
    }
  }
}
