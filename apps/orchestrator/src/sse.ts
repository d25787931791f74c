import { BelayError } from '#libs/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** A client with more waiting bytes is dropped, in case a caller does not wait for `drained`. */
const MAX_BUFFERED = 1024 * 1024;
/** A client has this long to read the rest of an ended stream. Milliseconds. */
const LAST_WORDS_MS = 10_000;
/** The same for a client that was dropped, since it does not read. Milliseconds. */
const DROPPED_MS = 1_000;

/** One server-sent-events response: frames, keep-alive, and the only end, which clears everything. */
export class SseStream {
  /** Fires after the silence that a proxy or a client tolerates; each frame restarts it. */
  private readonly keepAlive: NodeJS.Timeout;
  private cutting: NodeJS.Timeout | undefined;
  private over = false;
  readonly gone = new AbortController();
  /** Resolves when the response is over, however it ended. */
  readonly closed: Promise<void>;
  /** True once the connection closed before the end of the stream. */
  wasLost = false;

  /** `keepAliveMs`: after this silence a comment is sent. A client that reads nothing for as long is dropped. */
  constructor(
    private readonly reply: FastifyReply,
    private readonly keepAliveMs: number,
  ) {
    // Fastify answers HEAD with the GET handler: then there is nothing to stream.
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
      // The client may have left before its stream began: then no event reports it.
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
   * False when the client is gone or too slow; then the stream is over. `retryMs`: how long a client that reconnects by itself
   * should wait. @throws Error for an event or id with a line break
   */
  send(event: string, data: unknown, id?: string, retryMs?: number): boolean {
    if (this.gone.signal.aborted) return false;
    const fields = [
      ...(retryMs === undefined ? [] : [`retry: ${retryMs}`]),
      ...(id === undefined ? [] : [`id: ${oneLine(id)}`]),
      `event: ${oneLine(event)}`,
      // JSON has no raw line breaks.
      `data: ${JSON.stringify(data)}`,
    ];
    const { raw } = this.reply;
    raw.write(`${fields.join('\n')}\n\n`);
    this.keepAlive.refresh();
    if (raw.writableLength <= MAX_BUFFERED) return true;
    this.drop();
    return false;
  }

  /** Resolves when the client has read everything that was sent; false when it is gone, or was dropped for not reading. */
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

  /** Sends nothing more. Earlier output still reaches a client that reads it. */
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
    // Otherwise a client that never reads would keep its socket, and the bytes for it, as long as it likes.
    if (!raw.closed) this.cutting = setTimeout(() => raw.destroy(), cutAfterMs).unref();
  }

  private comment(): void {
    // A client with unread output needs no keep-alive.
    if (!this.reply.raw.writableNeedDrain) this.reply.raw.write(': keep-alive\n\n');
  }
}

const STREAM_ID = /^\d{1,15}-\d{1,15}$/;

/** The id after which a returning client goes on. @throws BelayError INVALID_REQUEST */
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
