import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { BelayError } from '#libs/contracts';
import { problemToError } from './problem-to-error';
import { headersOf, type Transport } from './send-request';
import { OrchestratorUnreachableError } from './unreachable';

/** One frame of a server-sent event stream. */
export interface Frame {
  readonly event: string;
  readonly id?: string;
  readonly data: string;
}

export interface StreamShape {
  readonly path: string;
  readonly lastEventId?: string;
  readonly signal?: AbortSignal;
  /** The server's `retry:` field. Milliseconds. */
  readonly onRetry?: (ms: number) => void;
  /** The server answered; frames may follow. */
  readonly onOpen?: () => void;
  /** The wait for the headers may take this long. Milliseconds. */
  readonly openMs?: number;
  /** After this silence the connection counts as dead: the server sends a comment every 25 s. Milliseconds. */
  readonly silenceMs?: number;
}

/** The largest frame kept in memory, in characters: a result (256 KiB) inside an event, with much to spare. */
const MAX_FRAME = 8 * 1024 * 1024;

/**
 * The frames of one connection. Ends when the server closes it. It also watches for silence, because a peer that lost power
 * sends no end, and a read would wait for ever.
 */
export async function* openStream(transport: Transport, shape: StreamShape): AsyncGenerator<Frame, void> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  shape.signal?.addEventListener('abort', abort, { once: true });
  const giveUp = (): void => controller.abort(new Error('silent for too long'));
  let watchdog = setTimeout(giveUp, shape.openMs ?? 15_000);
  try {
    shape.signal?.throwIfAborted();
    const response = await transport.fetch(transport.url + shape.path, {
      headers: {
        ...headersOf(transport, {}),
        accept: 'text/event-stream',
        'cache-control': 'no-cache',
        ...(shape.lastEventId === undefined ? {} : { 'last-event-id': shape.lastEventId }),
      },
      redirect: 'error',
      signal: controller.signal,
    });
    if (!response.ok) throw problemToError(response.status, await response.text(), `GET ${shape.path}`);
    if (
      response.headers.get('content-type')?.startsWith('text/event-stream') !== true ||
      response.body === null
    )
      throw new BelayError('INTERNAL', `GET ${shape.path} was not answered with an event stream.`);
    shape.onOpen?.();
    const frames: Frame[] = [];
    const fault: { error?: BelayError } = {};
    const parser = createParser({
      maxBufferSize: MAX_FRAME,
      onEvent: (message) => frames.push(toFrame(message)),
      onRetry: (ms) => shape.onRetry?.(ms),
      onError: (error) => {
        if (error.type === 'max-buffer-size-exceeded')
          fault.error = new BelayError('INTERNAL', `GET ${shape.path} sent a frame over ${MAX_FRAME} bytes.`);
      },
    });
    const decoder = new TextDecoder();
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      clearTimeout(watchdog);
      parser.feed(decoder.decode(chunk, { stream: true }));
      if (fault.error !== undefined) throw fault.error;
      // No watchdog while the caller handles frames: a slow reader is not a silent server.
      yield* frames.splice(0);
      watchdog = setTimeout(giveUp, shape.silenceMs ?? 75_000);
    }
  } catch (error) {
    if (error instanceof BelayError) throw error;
    shape.signal?.throwIfAborted();
    throw new OrchestratorUnreachableError(transport.url, error);
  } finally {
    clearTimeout(watchdog);
    shape.signal?.removeEventListener('abort', abort);
    // Leaving early (break, throw) must close the connection, or the server keeps a stream that nobody reads.
    controller.abort();
  }
}

function toFrame(message: EventSourceMessage): Frame {
  return {
    event: message.event ?? 'message',
    data: message.data,
    ...(message.id === undefined ? {} : { id: message.id }),
  };
}
