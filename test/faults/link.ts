import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { pause } from './clock';

/** The server's real address. */
export type Upstream = { readonly path: string } | { readonly host: string; readonly port: number };

/** One client of a link, with its connection to the server. */
interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  /** Whether it has subscribed: then the bytes that come back are doorbells and events. */
  isEars: boolean;
}

const MESSAGE = /^[*>]3\r\n\$7\r\nmessage\r\n/;

/**
 * The network between one process and the server: a proxy on the loopback interface that can cut connections, refuse them,
 * delay or keep back bytes in transit, and drop only pub/sub messages.
 */
export class Link {
  /** The number of refused connections. */
  refused = 0;
  readonly #pairs = new Set<Pair>();
  readonly #held: (() => void)[] = [];
  #delayMs = 0;
  #refusing = false;
  #stalled = false;
  #deaf = false;
  /** Whether the server's answers are dropped. */
  #muted = false;
  readonly #agentsSeen = new Set<string>();
  #onClaim: (() => void) | undefined;
  #onAsked: ((text: string) => void) | undefined;

  private constructor(
    private readonly server: Server,
    private readonly upstream: Upstream,
  ) {
    server.on('connection', (near) => this.#accept(near));
  }

  /** `at`: a host of the loopback interface and a port; by default any port of 127.0.0.1. */
  static async open(upstream: Upstream, at = { host: '127.0.0.1', port: 0 }): Promise<Link> {
    const server = createServer();
    const link = new Link(server, upstream);
    await new Promise<void>((listening) => server.listen(at.port, at.host, listening));
    return link;
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Breaks every connection; new ones are accepted. */
  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  }

  /** Breaks every connection, and refuses new ones until `heal`. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** Delays bytes sent from now on, in order, both ways. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Nothing arrives and nothing breaks, until `heal` passes all of it on: a partition that mends. */
  stall(): void {
    this.#stalled = true;
  }

  /** Drops pub/sub messages; the subscription looks alive. */
  deafen(): void {
    this.#deaf = true;
  }

  /**
   * Resolves when a claim passes: the first call of an agent in this direction. From then on the server has it, and its answer
   * is kept back until `heal`. False: none came within `ms`.
   */
  async holdAtClaim(ms: number, signal: AbortSignal): Promise<boolean> {
    const waiting = new AbortController();
    this.#onClaim = () => {
      this.#muted = true;
      waiting.abort();
    };
    await pause(ms, AbortSignal.any([signal, waiting.signal]));
    this.#onClaim = undefined;
    return waiting.signal.aborted;
  }

  /** From the first matching call on, the server gets everything and its answers are dropped, until `heal`. */
  loseAnswersFrom(pattern: RegExp): void {
    this.#onAsked = (text) => {
      if (pattern.test(text)) this.#muted = true;
    };
  }

  heal(): void {
    this.#delayMs = 0;
    this.#onAsked = undefined;
    this.#refusing = this.#stalled = this.#deaf = this.#muted = false;
    for (const pass of this.#held.splice(0)) pass();
  }

  close(): void {
    this.cut();
    this.server.close();
  }

  #accept(near: Socket): void {
    if (this.#refusing) {
      this.refused++;
      return void near.resetAndDestroy();
    }
    const far = connect(this.upstream);
    const pair: Pair = { near, far, isEars: false };
    this.#pairs.add(pair);
    const end = (): void => {
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on('error', end).on('close', end);
    }
    const toFar = this.#channel(far, () => this.#stalled);
    near.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1');
      pair.isEars ||= /\r\nsubscribe\r\n/i.test(text);
      this.#lookForClaim(text);
      this.#onAsked?.(text);
      toFar(chunk);
    });
    const toNear = this.#channel(near, () => this.#stalled || this.#muted);
    const filter = new MessageFilter();
    far.on('data', (chunk: Buffer) => {
      const rest = pair.isEars ? filter.pass(chunk, this.#deaf) : chunk;
      if (rest.length > 0) toNear(rest);
    });
  }

  #lookForClaim(text: string): void {
    for (const [id] of text.matchAll(/agt_[0-9A-Z]{26}-\d+-\d+/g)) {
      if (this.#agentsSeen.has(id)) continue;
      this.#agentsSeen.add(id);
      this.#onClaim?.();
    }
  }

  /** One direction of one connection: bytes may be late or kept back, but never out of order. */
  #channel(to: Socket, isHeld: () => boolean): (chunk: Buffer) => void {
    let before: Promise<void> = Promise.resolve();
    let waiting = 0;
    const later = async (chunk: Buffer, earlier: Promise<void>): Promise<void> => {
      await Promise.all([earlier, pause(this.#delayMs), this.#passable(isHeld)]);
      waiting--;
      if (!to.destroyed) to.write(chunk);
    };
    return (chunk) => {
      if (waiting === 0 && this.#delayMs === 0 && !isHeld()) return void to.write(chunk);
      waiting++;
      before = later(chunk, before);
    };
  }

  async #passable(isHeld: () => boolean): Promise<void> {
    if (isHeld()) await new Promise<void>((pass) => this.#held.push(pass));
  }
}

/** Removes complete pub/sub messages from a stream of replies. */
class MessageFilter {
  #pending = Buffer.alloc(0);

  pass(chunk: Buffer, drop: boolean): Buffer {
    if (!drop && this.#pending.length === 0) return chunk;
    let rest = Buffer.concat([this.#pending, chunk]);
    this.#pending = Buffer.alloc(0);
    const kept: Buffer[] = [];
    while (rest.length > 0) {
      const text = rest.toString('latin1');
      if (!MESSAGE.test(text)) {
        // A reply: up to the next message that begins here, if any.
        const next = text.slice(1).search(/[*>]3\r\n\$7\r\nmessage\r\n/);
        const end = next < 0 ? rest.length : next + 1;
        kept.push(rest.subarray(0, end));
        rest = rest.subarray(end);
        continue;
      }
      const length = messageLength(text);
      if (length === undefined || length > rest.length) {
        this.#pending = rest;
        break;
      }
      if (!drop) kept.push(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    return Buffer.concat(kept);
  }
}

/** The length of the message at the start of `text`; undefined while its lengths have not all come. */
function messageLength(text: string): number | undefined {
  let at = MESSAGE.exec(text)?.[0].length ?? 0;
  for (let i = 0; i < 2; i++) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at, at + 16));
    if (size === null) return undefined;
    at += size[0].length + Number(size[1]) + 2;
  }
  return at;
}
