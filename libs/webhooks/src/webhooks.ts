import { setMaxListeners } from 'node:events';
import { NotFoundError, type WebhookDelivery, type WebhookRecord } from '#libs/contracts';
import { DeliveryQueue, type Delivery, type DeliveryVerdict } from '#libs/dispatch';
import { isTransient, type ChangeFeed, type Valkey } from '#libs/valkey';
import { Subject, type Subscription } from 'rxjs';
import { isWanted } from './event-patterns';
import { Forwarder } from './forwarder';
import { postMessage } from './post-message';
import { retryDelay } from './retry-delay';
import type { Endpoint, WebhooksConfig } from './webhooks.types';

/** The look at the stream when no hint came. Milliseconds. */
const LOOK_MS = 1_000;
/** After a hint the forwarder waits this long, so that many events are one read. Milliseconds. */
const COALESCE_MS = 20;
/** Messages under way to one endpoint at a time, in each orchestrator. */
const AT_ONCE = 4;
/** An endpoint with this many deliveries that are not over gets no further ones. */
const MOST_WAITING = 10_000;

/** The result of one try, for the metrics. */
export interface WebhookTry {
  readonly endpoint: string;
  readonly result: 'delivered' | 'retried' | 'failed';
}

export interface WebhooksOptions extends WebhooksConfig {
  /** BullMQ's key prefix. */
  readonly prefix: string;
  readonly onError: (error: unknown) => void;
}

interface Hook {
  readonly endpoint: Endpoint;
  readonly queue: DeliveryQueue;
}

/**
 * Tells endpoints of control events (docs/webhooks.md). Without an endpoint it has no connection, no timer and no subscription, and
 * sends no command.
 */
export class Webhooks {
  private readonly hooks: readonly Hook[];
  private readonly forwarder: Forwarder | undefined;
  /** When each endpoint last took a message, and why it last did not: `NAME:success` and `NAME:error`. */
  private readonly outcomes: string;
  private readonly closing = new AbortController();
  private readonly subscriptions: Subscription[] = [];
  private timer: NodeJS.Timeout | undefined;
  private look: NodeJS.Timeout | undefined;
  private atWork: Promise<void> | undefined;
  private isAsked = false;
  readonly tries$ = new Subject<WebhookTry>();

  constructor(
    private readonly valkey: Valkey,
    private readonly feed: ChangeFeed,
    private readonly options: WebhooksOptions,
  ) {
    const { endpoints, prefix, retry } = options;
    const { keys } = valkey;
    this.outcomes = keys.shard(keys.control, 'webhooks:outcomes');
    const connection = endpoints.length === 0 ? undefined : valkey.connections.create('blocking');
    // One listener for each message under way; it is removed with the message.
    setMaxListeners(0, this.closing.signal);
    this.hooks =
      connection === undefined
        ? []
        : endpoints.map((endpoint) => ({
            endpoint,
            queue: new DeliveryQueue(valkey, {
              prefix,
              connection,
              queue: `belay-webhooks-${endpoint.name}`,
              concurrency: AT_ONCE,
              maxAttempts: retry.maxAttempts,
              delayAfter: (attempt) => retryDelay(retry, attempt),
            }),
          }));
    this.forwarder = this.hooks.length === 0 ? undefined : this.makeForwarder();
  }

  start(): void {
    const { forwarder } = this;
    if (forwarder === undefined || this.timer !== undefined) return;
    for (const { endpoint, queue } of this.hooks)
      queue.consume(async (delivery, isLast) => this.send(endpoint, delivery, isLast));
    this.timer = setInterval(() => this.wake(), LOOK_MS);
    this.subscriptions.push(
      this.feed.events$.subscribe(({ type }) => {
        if (this.hooks.some(({ endpoint }) => isWanted(endpoint.events, type))) this.wakeSoon();
      }),
      this.valkey.renewed$.subscribe(() => forwarder.doubt()),
    );
    this.wake();
  }

  /** Deliveries under way are cut off and go back to their queues. Bounded by the caller. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    clearTimeout(this.look);
    for (const one of this.subscriptions.splice(0)) one.unsubscribe();
    this.closing.abort();
    await this.atWork;
    await Promise.allSettled([
      this.forwarder?.giveBack(),
      ...this.hooks.map(async ({ queue }) => queue.close()),
    ]);
  }

  /** Every endpoint, by name. */
  async list(): Promise<WebhookRecord[]> {
    if (this.hooks.length === 0) return [];
    const outcomes = await this.valkey.redis.hgetall(this.outcomes);
    const records = await Promise.all(
      this.hooks.map(async ({ endpoint: { name, url, events }, queue }) => {
        const success = readOutcome(outcomes[`${name}:success`]);
        const error = readOutcome(outcomes[`${name}:error`]);
        return {
          name,
          origin: url.origin,
          events,
          ...(await queue.counts()),
          ...(success === undefined ? {} : { lastSuccessAt: success.at }),
          ...(error === undefined ? {} : { lastErrorAt: error.at, lastError: error.reason ?? '' }),
        };
      }),
    );
    return records.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The newest deliveries to one endpoint. @throws NotFoundError */
  async deliveries(name: string): Promise<WebhookDelivery[]> {
    const hook = this.hooks.find(({ endpoint }) => endpoint.name === name);
    if (hook === undefined) throw new NotFoundError('webhook', name);
    return hook.queue.newest();
  }

  private makeForwarder(): Forwarder {
    return new Forwarder(
      this.valkey,
      this.hooks.map(({ endpoint, queue }) => ({
        name: endpoint.name,
        wants: (type) => isWanted(endpoint.events, type),
        hasRoom: async () => (await queue.counts()).waiting < MOST_WAITING,
        store: async (deliveries) => queue.add(deliveries),
      })),
    );
  }

  private wakeSoon(): void {
    this.look ??= setTimeout(() => {
      this.look = undefined;
      this.wake();
    }, COALESCE_MS);
  }

  private wake(): void {
    if (this.closing.signal.aborted) return;
    // An event that comes after a pass has read the stream needs another one.
    this.isAsked = true;
    this.atWork ??= this.forwardAll().finally(() => (this.atWork = undefined));
  }

  private async forwardAll(): Promise<void> {
    try {
      while (this.isAsked && !this.closing.signal.aborted) {
        this.isAsked = false;
        if ((await this.forwarder?.pass()) === true) this.isAsked = true;
      }
    } catch (error) {
      // The server is away for a moment: the next look tries again.
      if (!this.closing.signal.aborted && !isTransient(error)) this.options.onError(error);
    }
  }

  private async send(endpoint: Endpoint, delivery: Delivery, isLast: boolean): Promise<DeliveryVerdict> {
    const verdict = await postMessage(endpoint, delivery, this.closing.signal);
    if (verdict === 'requeue') return verdict;
    await this.note(endpoint.name, verdict, isLast);
    return verdict;
  }

  private async note(
    endpoint: string,
    verdict: Exclude<DeliveryVerdict, 'requeue'>,
    isLast: boolean,
  ): Promise<void> {
    const at = Math.round(this.valkey.clock.now());
    let result: WebhookTry['result'] = 'delivered';
    let reason: string | undefined;
    if (verdict !== 'delivered') {
      result = 'failed' in verdict || isLast ? 'failed' : 'retried';
      reason = 'failed' in verdict ? verdict.failed : verdict.retry;
    }
    this.tries$.next({ endpoint, result });
    const field = `${endpoint}:${verdict === 'delivered' ? 'success' : 'error'}`;
    // For people only: the delivery is settled all the same.
    await this.valkey.redis.hset(this.outcomes, field, JSON.stringify({ at, reason })).catch(() => undefined);
  }
}

function readOutcome(text: string | undefined): { at: number; reason?: string } | undefined {
  try {
    const found = JSON.parse(text ?? 'null') as { at?: unknown; reason?: unknown } | null;
    if (typeof found?.at !== 'number') return undefined;
    return { at: found.at, ...(typeof found.reason === 'string' ? { reason: found.reason } : {}) };
  } catch {
    return undefined;
  }
}
