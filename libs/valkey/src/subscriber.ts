import { Subject, type Observable } from 'rxjs';
import type { Redis } from 'ioredis';

/** A subscription is silent when nothing happens, so it is pinged at this interval. Milliseconds. */
const PING_MS = 5_000;

/**
 * Pub/sub on one connection. Messages are hints. A consumer reads the truth from the store after every `subscribed$`, which
 * fires on the first subscription and after each reconnect, since messages published in between are lost.
 */
export class Subscriber {
  private readonly messages = new Subject<{ channel: string; message: string }>();
  private readonly subscribed = new Subject<void>();
  private started = false;
  private pinging: NodeJS.Timeout | undefined;

  constructor(
    private readonly redis: Redis,
    private readonly channels: readonly string[],
  ) {}

  /** Every message on the channels. */
  get messages$(): Observable<{ channel: string; message: string }> {
    return this.messages;
  }

  /** Fires when the subscription stands (again). */
  get subscribed$(): Observable<void> {
    return this.subscribed;
  }

  /** Subscribes once; ioredis renews the subscription after a reconnect. Resolves when it stands. */
  async start(): Promise<void> {
    if (this.started) return;
    this.started = true;
    this.redis.on('message', (channel: string, message: string) => this.messages.next({ channel, message }));
    await this.redis.subscribe(...this.channels);
    this.subscribed.next();
    // If a ping stays unanswered, the connection's socketTimeout drops it: the network path may be gone silently.
    this.pinging = setInterval(() => {
      if (this.redis.status === 'ready') this.redis.ping().catch(() => undefined);
    }, PING_MS);
    this.pinging.unref();
    this.redis.on('ready', () => {
      // `ready` precedes the resubscription on the wire; our own subscribe is answered after it.
      this.redis.subscribe(...this.channels).then(
        () => this.subscribed.next(),
        () => undefined,
      );
    });
  }

  /** Ends both streams. The caller closes the connection. */
  stop(): void {
    clearInterval(this.pinging);
    this.messages.complete();
    this.subscribed.complete();
  }
}
