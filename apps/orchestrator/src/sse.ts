import { BelayError } from '#libs/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Bytes a slow client may have waiting before it is dropped (R62). */
const MAX_BUFFERED = 1024 * 1024;
const KEEP_ALIVE_MS = 25_000;

/** One server-sent-events response: frames, keep-alive, and the one way out that clears everything. */
export class SseStream {
  private readonly timer: NodeJS.Timeout;
  readonly gone = new AbortController();
  /** Resolves when the response is over, however it ended. */
  readonly closed: Promise<void>;

  constructor(private readonly reply: FastifyReply) {
    // Fastify answers HEAD by the GET handler: there is nothing to stream then.
    const isHead = reply.request.method === 'HEAD';
    reply.hijack();
    reply.raw.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      connection: 'keep-alive',
    });
    this.closed = new Promise((resolve) => {
      reply.raw.on('close', () => {
        clearInterval(this.timer);
        this.gone.abort();
        resolve();
      });
    });
    this.timer = setInterval(() => reply.raw.write(': keep-alive\n\n'), KEEP_ALIVE_MS);
    this.timer.unref();
    if (isHead) this.end();
  }

  /** False when the client is gone or too slow; then the stream is over. */
  send(event: string, data: unknown, id?: string): boolean {
    if (this.gone.signal.aborted) return false;
    const { raw } = this.reply;
    raw.write(`${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    if (raw.writableLength <= MAX_BUFFERED) return true;
    raw.write('event: dropped\ndata: {"reason":"slow_client"}\n\n');
    this.end();
    return false;
  }

  end(): void {
    clearInterval(this.timer);
    this.gone.abort();
    this.reply.raw.end();
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
