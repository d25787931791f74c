import { BelayError } from '#libs/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Bytes a client may have waiting before it is dropped, should a caller not wait for `drained`. */
const MAX_BUFFERED = 1024 * 1024;
/** How long a client may take to read what is left of an ended stream. Milliseconds. */
const LAST_WORDS_MS = 10_000;
/** The same for a client that was dropped: it does not read. Milliseconds. */
const DROPPED_MS = 1_000;

/** One server-sent-events response: frames, keep-alive, and the one way out that clears everything. */
export class SseStream {
  /** Fires after as much silence as a proxy or a client bears; each frame puts it off. */
  private readonly keepAlive: NodeJS.Timeout;
  private cutting: NodeJS.Timeout | undefined;
  private over = false;
  readonly gone = new AbortController();
  /** Resolves when the response is over, however it ended. */
  readonly closed: Promise<void>;
  /** True once the connection closed although the stream was not at its end. */
  wasLost = false;

  /** `keepAliveMs`: after that much silence a comment is sent; a client that reads nothing for as long is dropped. */
  constructor(
    private readonly reply: FastifyReply,
    private readonly keepAliveMs: number,
  ) {
    // Fastify answers HEAD by the GET handler: there is nothing to stream then.
    const isHead = reply.request.method === 'HEAD';
    const { raw } = reply;
    reply.hijack();
    this.closed = new Promise((resolve) => {
      const close = (): void => {
        this.wasLost = !this.over;
        clearInterval(this.keepAlive);
        clearTimeout(this.cutting);
        this.gone.abort();
        resolve();
      };
      // A client may have left before its stream was begun; then no event tells.
      if (raw.closed) setImmediate(close);
      else raw.once('close', close);
    });
    raw.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      connection: 'keep-alive',
    });
    this.keepAlive = setInterval(() => this.comment(), keepAliveMs).unref();
    if (isHead) this.end();
  }

  /**
   * False when the client is gone or too slow; then the stream is over. `retryMs`: how long a client that reconnects by
   * itself should wait. @throws Error for an event or id that would be more than one line
   */
  send(event: string, data: unknown, id?: string, retryMs?: number): boolean {
    if (this.gone.signal.aborted) return false;
    const fields = [
      ...(retryMs === undefined ? [] : [`retry: ${retryMs}`]),
      ...(id === undefined ? [] : [`id: ${oneLine(id)}`]),
      `event: ${oneLine(event)}`,
      // JSON has no line breaks of its own.
      `data: ${JSON.stringify(data)}`,
    ];
    const { raw } = this.reply;
    raw.write(`${fields.join('\n')}\n\n`);
    this.keepAlive.refresh();
    if (raw.writableLength <= MAX_BUFFERED) return true;
    this.drop();
    return false;
  }

  /** Resolves when the client has taken what was sent; false when it is gone, or was dropped for not reading. */
  async drained(): Promise<boolean> {
    const { raw } = this.reply;
    if (this.gone.signal.aborted) return false;
    if (!raw.writableNeedDrain) return true;
    const hasRead = await new Promise<boolean>((resolve) => {
      const finish = (answer: boolean) => () => {
        clearTimeout(timer);
        raw.off('drain', read);
        raw.off('close', left);
        resolve(answer);
      };
      const read = finish(true);
      const left = finish(false);
      const timer = setTimeout(left, this.keepAliveMs).unref();
      raw.once('drain', read);
      raw.once('close', left);
    });
    if (!hasRead) this.drop();
    return hasRead && !this.gone.signal.aborted;
  }

  /** Nothing more comes. Output sent before still reaches a client that reads it. */
  end(): void {
    this.finish(LAST_WORDS_MS);
  }

  private drop(): void {
    if (this.over) return;
    this.reply.raw.write('event: dropped\ndata: {"reason":"slow_client"}\n\n');
    this.finish(DROPPED_MS);
  }

  private finish(cutAfterMs: number): void {
    if (this.over) return;
    this.over = true;
    const { raw } = this.reply;
    clearInterval(this.keepAlive);
    this.gone.abort();
    raw.end();
    // A client that never reads would keep its socket, and what waits in it, for as long as it likes.
    if (!raw.closed) this.cutting = setTimeout(() => raw.destroy(), cutAfterMs).unref();
  }

  private comment(): void {
    // One that has not read what is there needs no sign of life.
    if (!this.reply.raw.writableNeedDrain) this.reply.raw.write(': keep-alive\n\n');
  }
}

const STREAM_ID = /^\d{1,15}-\d{1,15}$/;

/** Where a client goes on that was there before. @throws BelayError INVALID_REQUEST */
export function readLastEventId(request: FastifyRequest): string | undefined {
  const header = request.headers['last-event-id'];
  const lastId = Array.isArray(header) ? header[0] : header;
  if (lastId === undefined || STREAM_ID.test(lastId)) return lastId;
  throw new BelayError(
    'INVALID_REQUEST',
    'Last-Event-ID must be an id this stream has sent, such as 1700000000000-0.',
  );
}

/** @throws Error: a line break would begin another field, or another frame */
function oneLine(text: string): string {
  if (/[\r\n\0]/.test(text))
    throw new Error(`An event stream's id or event name has a line break: ${JSON.stringify(text)}`);
  return text;
}
