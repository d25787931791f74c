import { isBelayError, type AgentRecord, type Receipt, type Scope } from '#libs/contracts';
import type { BelayClient, ExecutionSpecInput } from '#libs/client';
import { pause, uptime } from './clock';
import type { Covers, HoldFacts, OrderFacts, ReceiptFacts, Span } from './history';
import type { Ask, NodeRole, PlannedExecution, Pool, Team } from './plan-types';

/** No answer is awaited for longer: the server's own limit is far below. */
const ANSWER_WITHIN_MS = 12_000;
const AGAIN_AFTER_MS = 100;
/** An orchestrator needs this long to be back. */
const SUBMIT_WITHIN_MS = 8_000;

/** A submit and its outcome. */
export interface Submitted {
  /** Set by a 2xx answer. */
  id?: string;
  refused?: string;
}

/** An act requested over HTTP. */
export type HttpAsk = Exclude<Ask, { do: 'break-glass' | 'drill' | 'armed' }>;

/** Carries out the acts of a plan through the HTTP client, like a user, and records the answers. */
export class Asker {
  readonly orders: OrderFacts[] = [];
  readonly holds: HoldFacts[] = [];
  readonly submitted = new Map<number, Submitted>();
  readonly accepted: Record<string, Span> = {};
  /** Executions that went on after their end. */
  readonly retried = new Set<string>();
  #turn = 0;
  #count = 0;

  constructor(
    private readonly clients: () => BelayClient[],
    private readonly seed: number,
  ) {}

  /** A client of a live orchestrator, another one each time. */
  client(): BelayClient | undefined {
    const clients = this.clients();
    return clients[this.#turn++ % Math.max(1, clients.length)];
  }

  /**
   * Submits until the execution is accepted, refused by a latch, or never answered; with one key, so that it is one execution
   * however often it is sent.
   */
  async submit(index: number, planned: PlannedExecution, spec: unknown): Promise<void> {
    const entry: Submitted = {};
    this.submitted.set(index, entry);
    const until = performance.now() + SUBMIT_WITHIN_MS;
    const from = uptime();
    while (performance.now() < until) {
      try {
        const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
        const answer = await this.client()?.createExecution(spec as ExecutionSpecInput, { signal });
        if (answer !== undefined) {
          entry.id = answer.execution.id;
          this.accepted[entry.id] = { from, to: uptime() };
          return;
        }
      } catch (error) {
        entry.refused = codeOf(error);
        if (['LATCHED', 'INVALID_SPEC', 'IDEMPOTENCY_CONFLICT'].includes(entry.refused)) return;
      }
      await pause(AGAIN_AFTER_MS);
    }
    entry.refused ??= `${planned.name} was never answered`;
  }

  /** One order of the plan with all its steps, from the kill to the release. */
  async give(act: HttpAsk, worker: (place: number) => string | undefined): Promise<void> {
    switch (act.do) {
      case 'stop':
        return this.stop(this.submitted.get(act.execution)?.id);
      case 'retry':
        return this.#retry(this.submitted.get(act.execution)?.id, act.withinMs);
      case 'kill-agent': {
        const agent = await this.#agent(act.pick, act.among);
        if (agent === undefined) return undefined;
        const covers = { what: 'agent', agentId: agent.id } as const;
        return this.#kill(act.do, { type: 'agent', agentId: agent.id }, covers);
      }
      case 'kill-worker': {
        const workerId = worker(act.worker);
        if (workerId === undefined) return undefined;
        return this.#kill(act.do, { type: 'worker', workerId }, { what: 'worker', workerId }, act.holdMs);
      }
      case 'kill-team':
        return this.#kill(act.do, teamScope(act.team), { what: 'team', team: act.team }, act.holdMs);
      case 'kill-pool':
        return this.#kill(act.do, poolScope(act.pool), { what: 'pool', pool: act.pool }, act.holdMs);
      case 'kill-role':
        return this.#kill(act.do, roleScope(act.role), { what: 'role', role: act.role }, act.holdMs);
      case 'kill-all':
        return this.#kill(act.do, { type: 'all' }, { what: 'all' }, act.holdMs);
      case 'latch-team':
        return this.#latch(act.do, teamScope(act.team), { what: 'team', team: act.team }, act.holdMs);
      case 'latch-pool':
        return this.#latch(act.do, poolScope(act.pool), { what: 'pool', pool: act.pool }, act.holdMs);
      case 'freeze-agent': {
        const agent = await this.#agent(act.pick);
        if (agent === undefined) return undefined;
        const scope = { type: 'agent', agentId: agent.id } as const;
        return this.#hold(
          act.do,
          { what: 'agent', agentId: agent.id },
          async (client) => client.kill({ kind: 'freeze', scope }),
          act.holdMs,
          async (client) => client.kill({ kind: 'thaw', scope }),
        );
      }
      case 'freeze-team': {
        const note = this.#note();
        return this.#hold(
          act.do,
          { what: 'team', team: act.team },
          async (client) => client.kill({ kind: 'freeze', scope: teamScope(act.team), note }),
          act.holdMs,
          async () => this.#release(note),
        );
      }
      case 'pause': {
        const id = this.submitted.get(act.execution)?.id;
        if (id === undefined) return undefined;
        return this.#hold(
          `${act.do}-${act.mode}`,
          { what: 'execution', executionId: id },
          async (client) => ({ receipt: (await client.pause(id, { mode: act.mode })).receipt }),
          act.holdMs,
          async (client) => client.resume(id),
        );
      }
    }
  }

  /** Waits until the execution has ended, and retries it. */
  async #retry(id: string | undefined, withinMs: number): Promise<void> {
    if (id === undefined) return;
    const until = performance.now() + withinMs;
    for (; performance.now() < until; await pause(AGAIN_AFTER_MS)) {
      const state = (await this.#ask(async (client) => client.execution(id)))?.state;
      if (state !== 'stopped' && state !== 'failed') continue;
      this.retried.add(id); // also when its answer is lost
      const order = this.begin('retry', { covers: { what: 'nothing' } });
      const again = await this.#ask(async (client) => client.retryExecution(id));
      // An earlier stop does not keep it from going on, nor does a request made while it ran.
      this.#letGo({ what: 'execution', executionId: id }, order.askedAt);
      if (again === undefined) continue;
      order.answeredAt = uptime();
      return;
    }
  }

  async stop(executionId: string | undefined, name = 'stop'): Promise<void> {
    if (executionId === undefined) return;
    const order = this.begin(name, { covers: { what: 'execution', executionId } });
    await this.#answered(order, async (client, signal) => {
      const { status, receipt } = await client.stop(executionId, {}, { signal });
      order.status = status;
      if (receipt !== undefined) order.receipt = receiptFacts(receipt);
    });
  }

  /** Releases everything, also what a lost answer left behind. */
  async releaseAll(): Promise<void> {
    for (const order of this.orders)
      if (!['execution', 'agent'].includes(order.covers.what) || order.startsOnly === true)
        order.releasedAt ??= uptime();
    const { items = [] } = (await this.client()?.latches()) ?? {};
    for (const { id } of items) await this.client()?.releaseLatch(id, 'the seed is over');
    const { items: paused = [] } = (await this.client()?.executions({ state: ['paused'] })) ?? {};
    for (const { id } of paused) await this.client()?.resume(id).catch(unlessGone);
    const { items: agents = [] } = (await this.client()?.agents({ state: ['running'] })) ?? {};
    for (const { id, frozen } of agents)
      if (frozen === true)
        await this.client()
          ?.kill({ kind: 'thaw', scope: { type: 'agent', agentId: id } })
          .catch(unlessGone);
  }

  /**
   * A worker that was emptied over its socket engages a latch once it has contact again, which may be after everything was
   * released. This releases that latch too. True: there was one.
   */
  async releaseLate(): Promise<boolean> {
    if (this.orders.every(({ local }) => local !== true)) return false;
    const { items = [] } = (await this.#ask(async (client) => client.latches())) ?? {};
    for (const { id } of items)
      await this.#ask(async (client) => client.releaseLatch(id, 'the seed is over'));
    return items.length > 0;
  }

  async #kill(name: string, scope: Scope, covers: Covers, holdMs?: number): Promise<void> {
    const note = this.#note();
    const order = this.begin(name, { covers });
    await this.#answered(order, async (client, signal) => {
      order.receipt = receiptFacts(await client.kill({ scope, note }, { signal }));
    });
    if (holdMs !== undefined) await this.#releaseLater(order, note, holdMs);
  }

  async #releaseLater(order: OrderFacts, note: string, holdMs: number): Promise<void> {
    await pause(holdMs);
    this.#letGoOrder(order);
    await this.#release(note).catch(unlessGone);
  }

  async #latch(name: string, scope: Scope, covers: Covers, holdMs: number): Promise<void> {
    const note = this.#note();
    const order = this.begin(name, { covers, startsOnly: true });
    await this.#answered(order, async (client, signal) => {
      await client.engageLatch({ scope, note }, { signal });
    });
    return this.#releaseLater(order, note, holdMs);
  }

  /**
   * Freezes or pauses, and resumes. If the resume fails, the end of the seed resumes. Until then nothing of `covers` starts.
   */
  async #hold(
    name: string,
    covers: Covers,
    begin: (client: BelayClient) => Promise<Receipt | { readonly receipt: Receipt | undefined }>,
    holdMs: number,
    end: (client: BelayClient) => Promise<unknown>,
  ): Promise<void> {
    const order = this.begin(name, { covers, startsOnly: true });
    const answer = await this.#ask(begin);
    const receipt = answer === undefined || 'targets' in answer ? answer : answer.receipt;
    const from = uptime();
    if (answer === undefined) order.error = 'NO_ANSWER';
    else order.answeredAt = from;
    if (receipt !== undefined) order.receipt = receiptFacts(receipt);
    await pause(holdMs);
    if (covers.what === 'execution') this.#letGo(covers, uptime(), true);
    else order.releasedAt ??= uptime();
    const agentIds = receipt?.targets.flatMap(({ outcome, agentId }) =>
      outcome === 'frozen' ? agentId : [],
    );
    if (agentIds !== undefined && agentIds.length > 0)
      this.holds.push({ name, agentIds, from, until: uptime(), askedAt: order.askedAt });
    await this.#ask(end);
  }

  /** Undefined also when a fault lost the answer. */
  async #ask<T>(act: (client: BelayClient) => Promise<T>): Promise<T | undefined> {
    const client = this.client();
    return client === undefined ? undefined : act(client).catch(unlessGone);
  }

  /** Notes that an execution may go on: a resume ends every pause of it (`startsOnly`), a retry every order before it. */
  #letGo(scope: Extract<Covers, { what: 'execution' }>, at: number, startsOnly?: true): void {
    for (const order of this.orders) {
      const { covers } = order;
      if (covers.what === 'execution' && covers.executionId === scope.executionId)
        if (startsOnly === undefined || order.startsOnly === true) order.releasedAt ??= at;
    }
  }

  /** A worker that was emptied over its socket accepts any latch of its own as the one that it needs. */
  #letGoOrder(order: OrderFacts): void {
    order.releasedAt ??= uptime();
    if (order.covers.what !== 'worker') return;
    const { workerId } = order.covers;
    for (const other of this.orders)
      if (other.local === true && other.covers.what === 'worker' && other.covers.workerId === workerId)
        other.releasedAt ??= uptime();
  }

  /** After a kill over a worker's socket: the worker takes work again once its latch is released. */
  async releaseWorker(order: OrderFacts, workerId: string): Promise<void> {
    this.#letGoOrder(order);
    const { items = [] } = (await this.#ask(async (client) => client.latches())) ?? {};
    for (const { id, scope, note } of items)
      if (scope.type === 'worker' && scope.workerId === workerId && note?.startsWith('break-glass') === true)
        await this.#ask(async (client) => client.releaseLatch(id, 'as planned'));
  }

  /** By the note, since the answer that named the latch may have been lost. */
  async #release(note: string): Promise<void> {
    const { items = [] } = (await this.client()?.latches()) ?? {};
    for (const latch of items)
      if (latch.note === note) await this.client()?.releaseLatch(latch.id, 'as planned');
  }

  /** An agent of those executions; without them, of any. */
  async #agent(pick: number, among?: readonly number[]): Promise<AgentRecord | undefined> {
    const page = await this.client()
      ?.agents({ state: ['running'] })
      .catch(unlessGone);
    const ids = among && new Set(among.map((index) => this.submitted.get(index)?.id));
    const items = (page?.items ?? []).filter(({ executionId }) => ids?.has(executionId) ?? true);
    return items[Math.floor(pick * items.length)];
  }

  /** Begins the entry of an order. */
  begin(name: string, what: Pick<OrderFacts, 'covers' | 'startsOnly' | 'local'>): OrderFacts {
    const order: OrderFacts = { name, ...what, askedAt: uptime() };
    this.orders.push(order);
    return order;
  }

  async #answered(
    order: OrderFacts,
    ask: (client: BelayClient, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const client = this.client();
    if (client === undefined) return void (order.error = 'nobody to ask');
    try {
      await ask(client, AbortSignal.timeout(ANSWER_WITHIN_MS));
      order.answeredAt = uptime();
    } catch (error) {
      order.error = codeOf(error);
    }
  }

  #note(): string {
    return `seed ${this.seed}, order ${this.#count++}`;
  }
}

const poolScope = (pool: Pool) => ({ type: 'pool', pool }) as const;
const roleScope = (role: NodeRole) => ({ type: 'selector', selector: `role=${role}` }) as const;
const teamScope = (team: Team) => ({ type: 'selector', selector: `team=${team}` }) as const;

/** A fault explains this error, which is part of the campaign; an error in this code is not. */
export function unlessGone(error: unknown): undefined {
  if (!isBelayError(error) && !(error instanceof DOMException)) throw error;
}

function codeOf(error: unknown): string {
  unlessGone(error);
  return isBelayError(error) ? error.code : 'NO_ANSWER';
}

export function receiptFacts({ orderId, order, complete, targets }: Receipt): ReceiptFacts {
  return {
    orderId,
    kind: order.kind,
    complete,
    targets: targets.map(({ agentId, workerId, outcome, report }) => ({
      agentId,
      workerId,
      outcome,
      survivors: report?.survivors.length ?? 0,
    })),
  };
}
