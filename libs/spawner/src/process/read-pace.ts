import { setImmediate } from 'node:timers';

/** The average rate, and the most at once. Both in bytes. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/** A token bucket that its last taker may overdraw. */
export class Bucket {
  #level: number;
  #at = performance.now();

  constructor(private readonly rate: Rate) {
    this.#level = rate.burst;
  }

  take(bytes: number): void {
    this.#fill();
    this.#level -= bytes;
  }

  /** Milliseconds until bytes may be taken again; 0 when they may be taken now. */
  waitMs(): number {
    this.#fill();
    return this.#level > 0 ? 0 : Math.ceil(((1 - this.#level) * 1_000) / this.rate.perSecond);
  }

  #fill(): void {
    const now = performance.now();
    this.#level = Math.min(this.rate.burst, this.#level + ((now - this.#at) * this.rate.perSecond) / 1_000);
    this.#at = now;
  }
}

/** A source of bytes to read. */
export interface PacedSource {
  /** The source's own bound; undefined: it is read as fast as the event loop allows. */
  readonly bucket: Bucket | undefined;
  /** Reads one slice, at most some milliseconds' worth. @returns the cost in bytes, and whether more waits. */
  readSlice(): { readonly cost: number; readonly more: boolean };
}

/** Reading may block the event loop for this long in one turn; then other work has the loop for that long. Milliseconds. */
const TURN_MS = 2;
const REST_MS = 8;

/**
 * Shares a worker's reading among its agents: slice by slice in turn, each at its own rate and all at a common one, and in a
 * fifth of the event loop's time. An agent that writes faster finds its pipe full and waits in write(2). The other agents and
 * the event loop are not affected.
 */
export class ReadPace {
  readonly #bucket: Bucket;
  #queue: PacedSource[] = [];
  #immediate = false;
  #timer: NodeJS.Timeout | undefined;
  /** Turns of the event loop after which bytes were left unread. */
  waits = 0;

  constructor(rate: Rate) {
    this.#bucket = new Bucket(rate);
  }

  /** Reads from a source in its turn until it has no more. A source is listed once. */
  ask(source: PacedSource): void {
    this.#queue.push(source);
    this.wake();
  }

  /** A source may be read earlier than before. */
  wake(): void {
    if (this.#immediate || this.#queue.length === 0) return;
    this.#immediate = true;
    clearTimeout(this.#timer);
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#immediate = false;
    const until = performance.now() + TURN_MS;
    const later: PacedSource[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    while (this.#queue.length > 0 && performance.now() < until) {
      const source = this.#queue.shift() as PacedSource;
      const waitMs = this.#waitMs(source);
      if (waitMs > 0) {
        nextMs = Math.min(nextMs, waitMs);
        later.push(source);
        continue;
      }
      const { cost, more } = source.readSlice();
      source.bucket?.take(cost);
      if (source.bucket !== undefined) this.#bucket.take(cost);
      if (more) this.#queue.push(source);
    }
    if (this.#queue.some((source) => source.bucket === undefined)) nextMs = 0;
    else if (this.#queue.length > 0) nextMs = REST_MS;
    this.#queue.push(...later);
    if (this.#queue.length === 0) return;
    this.waits += 1;
    if (nextMs === 0) this.wake();
    else this.#timer = setTimeout(() => this.wake(), nextMs).unref();
  }

  #waitMs({ bucket }: PacedSource): number {
    return bucket === undefined ? 0 : Math.max(bucket.waitMs(), this.#bucket.waitMs());
  }
}
