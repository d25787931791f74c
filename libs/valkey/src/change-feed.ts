import { BelayError, type BelayEvent } from '#libs/contracts';
import { concatMap, filter, share, type Observable, type Subscription } from 'rxjs';
import { isTransient } from './transient-errors';
import { Subscriber } from './subscriber';
import type { Valkey } from './valkey';

/** A wait looks by itself at this interval, in case every hint is lost. Milliseconds. */
const LOOK_AGAIN_MS = 1_000;

/** The server is away for a moment: the next look may succeed. */
function whenPassing(error: unknown): undefined {
  if (!isTransient(error)) throw error;
}

/**
 * Drops a message that is no event of Belay: it must not end the stream (docs/architecture.md#a-record-that-cannot-be-read).
 */
function readEvent(message: string): BelayEvent[] {
  try {
    const event = JSON.parse(message) as BelayEvent | null;
    return typeof event?.type === 'string' ? [event] : [];
  } catch {
    return [];
  }
}

const draining = (): BelayError =>
  new BelayError('DRAINING', 'This process is stopping and waits no longer. The request is stored.');

/** Every published event as one stream, and waits that use an event as a hint and the record as the truth. */
export class ChangeFeed {
  private readonly subscriber: Subscriber;
  /** Each entry ends one wait that is under way. */
  private readonly waits = new Set<(error: BelayError) => void>();
  private stopped = false;
  readonly events$: Observable<BelayEvent>;

  constructor(valkey: Valkey) {
    const channel = valkey.keys.eventsChannel;
    this.subscriber = new Subscriber(valkey.connections.create('subscriber'), [channel]);
    this.events$ = this.subscriber.messages$.pipe(
      filter((message) => message.channel === channel),
      concatMap(({ message }) => readEvent(message)),
      share(),
    );
  }

  async start(): Promise<void> {
    await this.subscriber.start();
  }

  /** Ends the stream, and every wait with DRAINING. */
  stop(): void {
    this.stopped = true;
    this.subscriber.stop();
    for (const end of this.waits) end(draining());
  }

  /** Nest calls it when HTTP is closed: a wait whose caller is gone must not keep the process alive. */
  onApplicationShutdown(): void {
    this.stop();
  }

  /** Fires after each (re)subscription, when hints may have been missed. */
  get renewed$(): Observable<void> {
    return this.subscriber.subscribed$;
  }

  /**
   * Resolves with the first defined answer of `look`. It calls `look` at once, after every event for which `concerns` is true,
   * after a reconnect, and once a second. @throws BelayError TIMEOUT after `timeoutMs`, DRAINING once the feed stops
   */
  async until<T>(
    look: () => Promise<T | undefined>,
    concerns: (event: BelayEvent) => boolean,
    options: { timeoutMs: number; what: string; signal?: AbortSignal },
  ): Promise<T> {
    const subscriptions: Subscription[] = [];
    const timers: NodeJS.Timeout[] = [];
    let giveUp = (): void => undefined;
    let end = (_error: BelayError): void => undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        let looking = false;
        let again = false;
        const check = async (): Promise<void> => {
          if (looking) {
            again = true;
            return;
          }
          looking = true;
          do {
            again = false;
            const answer = await look().catch(whenPassing);
            if (answer !== undefined) {
              resolve(answer);
              return;
            }
          } while (again);
          looking = false;
        };
        const ask = (): void => void check().catch(reject);
        subscriptions.push(this.events$.pipe(filter(concerns)).subscribe(ask), this.renewed$.subscribe(ask));
        timers.push(setInterval(ask, LOOK_AGAIN_MS));
        timers.push(
          setTimeout(
            () =>
              reject(
                new BelayError('TIMEOUT', `${options.what} did not happen within ${options.timeoutMs} ms.`),
              ),
            options.timeoutMs,
          ),
        );
        end = reject;
        this.waits.add(end);
        if (this.stopped) return reject(draining());
        giveUp = () => reject(new BelayError('TIMEOUT', 'The caller gave up.'));
        options.signal?.addEventListener('abort', giveUp, { once: true });
        if (options.signal?.aborted === true) giveUp();
        ask();
      });
    } finally {
      this.waits.delete(end);
      for (const subscription of subscriptions) subscription.unsubscribe();
      for (const timer of timers) clearTimeout(timer);
      // One signal may outlive many waits: a stream passes its signal to a wait after every event.
      options.signal?.removeEventListener('abort', giveUp);
    }
  }
}
