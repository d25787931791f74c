import { isBelayError, type AgentRecord, type Receipt } from '#libs/contracts';
import type { BelayClient, KillRequest } from '#libs/client';
import { pause, uptime } from './clock';
import type { Covers, HoldFacts, OrderFacts, ReceiptFacts } from './history';
import type { Act, PlannedExecution, Team } from './plan';

/** No answer is waited for longer: the server's own limit is far below. */
const ANSWER_WITHIN_MS = 12_000;
const AGAIN_AFTER_MS = 100;
/** As long as an orchestrator needs to be back. */
const SUBMIT_WITHIN_MS = 8_000;

/** A submit and what came of it. */
export interface Submitted {
  /** Set by a 2xx answer. */
  id?: string;
  refused?: string;
}

/** Does what a plan asks for through the HTTP client, as a user would, and writes down what was answered. */
export class Asker {
  readonly orders: OrderFacts[] = [];
  readonly holds: HoldFacts[] = [];
  readonly submitted = new Map<number, Submitted>();
  #turn = 0;
  #count = 0;

  constructor(
    private readonly clients: () => BelayClient[],
    private readonly seed: number,
  ) {}

  /** One of those that live, another one each time. */
  client(): BelayClient | undefined {
    const clients = this.clients();
    return clients[this.#turn++ % Math.max(1, clients.length)];
  }

  /** Accepted, refused by a latch, or never answered; with one key, so that it is one execution however often it is sent. */
  async submit(index: number, planned: PlannedExecution, spec: unknown): Promise<void> {
    const entry: Submitted = {};
    this.submitted.set(index, entry);
    const until = performance.now() + SUBMIT_WITHIN_MS;
    while (performance.now() < until) {
      try {
        const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
        const answer = await this.client()?.createExecution(spec, { signal });
        if (answer !== undefined) {
          entry.id = answer.execution.id;
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

  /** One order of the plan with what belongs to it, from the kill to the release. */
  async give(act: Exclude<Act, { do: 'submit' | 'fault' }>, worker: (place: number) => string | undefined) {
    switch (act.do) {
      case 'stop':
        return this.stop(this.submitted.get(act.execution)?.id);
      case 'kill-agent': {
        const agent = await this.#agent(act.pick);
        if (agent === undefined) return undefined;
        const covers = { what: 'agent', agentId: agent.id } as const;
        return this.#kill({ scope: { type: 'agent', agentId: agent.id } }, covers);
      }
      case 'kill-worker': {
        const workerId = worker(act.worker);
        if (workerId === undefined) return undefined;
        return this.#kill({ scope: { type: 'worker', workerId } }, { what: 'worker', workerId }, act.holdMs);
      }
      case 'kill-team':
        return this.#kill({ scope: teamScope(act.team) }, { what: 'team', team: act.team }, act.holdMs);
      case 'kill-all':
        return this.#kill({ scope: { type: 'all' } }, { what: 'all' }, act.holdMs);
      case 'latch-team': {
        const note = this.#note();
        const covers = { what: 'team', team: act.team } as const;
        const order = this.#begin(`latch ${act.team}`, { covers, startsOnly: true });
        await this.#answered(order, async (client, signal) => {
          await client.engageLatch({ scope: teamScope(act.team), note }, { signal });
        });
        return this.#releaseLater(order, note, act.holdMs);
      }
      case 'freeze-agent': {
        const agent = await this.#agent(act.pick);
        if (agent === undefined) return undefined;
        const scope = { type: 'agent', agentId: agent.id } as const;
        return this.#hold(
          'freeze agent',
          async (client) => client.kill({ kind: 'freeze', scope }),
          act.holdMs,
          async (client) => client.kill({ kind: 'thaw', scope }),
        );
      }
      case 'freeze-team': {
        const note = this.#note();
        return this.#hold(
          `freeze team ${act.team}`,
          async (client) => client.kill({ kind: 'freeze', scope: teamScope(act.team), note }),
          act.holdMs,
          async () => this.#release(note),
        );
      }
      case 'pause': {
        const id = this.submitted.get(act.execution)?.id;
        if (id === undefined) return undefined;
        return this.#hold(
          `pause ${id}`,
          async (client) => (await client.pause(id, { mode: act.mode })).receipt,
          act.holdMs,
          async (client) => client.resume(id),
        );
      }
    }
  }

  async stop(executionId: string | undefined): Promise<void> {
    if (executionId === undefined) return;
    const order = this.#begin('stop', { covers: { what: 'execution', executionId } });
    await this.#answered(order, async (client, signal) => {
      const { status, receipt } = await client.stop(executionId, {}, { signal });
      order.status = status;
      if (receipt !== undefined) order.receipt = receiptFacts(receipt);
    });
  }

  /** Nothing is held any more: what a lost answer left behind as well. */
  async releaseAll(): Promise<void> {
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

  async #kill(request: KillRequest, covers: Covers, holdMs?: number): Promise<void> {
    const note = this.#note();
    const order = this.#begin(`kill ${covers.what}`, { covers });
    await this.#answered(order, async (client, signal) => {
      order.receipt = receiptFacts(await client.kill({ ...request, note }, { signal }));
    });
    if (holdMs !== undefined) await this.#releaseLater(order, note, holdMs);
  }

  async #releaseLater(order: OrderFacts, note: string, holdMs: number): Promise<void> {
    await pause(holdMs);
    order.releasedAt = uptime();
    await this.#release(note).catch(unlessGone);
  }

  /** Freezes or pauses, and lets go again: what fails is let go at the end. */
  async #hold(
    name: string,
    begin: (client: BelayClient) => Promise<Receipt | undefined>,
    holdMs: number,
    end: (client: BelayClient) => Promise<unknown>,
  ): Promise<void> {
    const receipt = await this.#ask(begin);
    const from = uptime();
    await pause(holdMs);
    const frozen = receipt?.targets.filter(({ outcome }) => outcome === 'frozen') ?? [];
    if (frozen.length > 0)
      this.holds.push({ name, agentIds: frozen.map(({ agentId }) => agentId), from, until: uptime() });
    await this.#ask(end);
  }

  /** Undefined also when a fault took the answer. */
  async #ask<T>(act: (client: BelayClient) => Promise<T>): Promise<T | undefined> {
    const client = this.client();
    return client === undefined ? undefined : act(client).catch(unlessGone);
  }

  /** By its note: the answer that named the latch may have been lost. */
  async #release(note: string): Promise<void> {
    const { items = [] } = (await this.client()?.latches()) ?? {};
    for (const latch of items)
      if (latch.note === note) await this.client()?.releaseLatch(latch.id, 'as planned');
  }

  async #agent(pick: number): Promise<AgentRecord | undefined> {
    const page = await this.client()
      ?.agents({ state: ['running'] })
      .catch(unlessGone);
    const items = page?.items ?? [];
    return items[Math.floor(pick * items.length)];
  }

  #begin(name: string, what: Pick<OrderFacts, 'covers' | 'startsOnly'>): OrderFacts {
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

const teamScope = (team: Team) => ({ type: 'selector', selector: `team=${team}` }) as const;

/** What a fault explains is part of the campaign; what is a fault of this code is not. */
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
