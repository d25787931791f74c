import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { createParser } from 'eventsource-parser';
import type { BelayEvent } from '#libs/contracts';
import { eventually } from './fleet';

export interface StreamFrame {
  readonly event: string;
  readonly id?: string;
  readonly data: unknown;
}

/** One connection to an event stream, as in a program without Belay's client. */
export interface EventClient {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** All frames so far, in order. */
  readonly frames: StreamFrame[];
  readonly comments: string[];
  /** The value of the `retry` field, if one came. */
  readonly retryMs: () => number | undefined;
  /** The events among the frames. */
  readonly events: () => BelayEvent[];
  readonly lastId: () => string | undefined;
  /** Resolves when the connection is over. */
  readonly closed: Promise<void>;
  /** Waits for a frame of that name. */
  frame(event: string): Promise<StreamFrame>;
  pause(): void;
  resume(): void;
  /** Breaks the connection silently, like a closed laptop. */
  destroy(): void;
}

/** Opens a stream; resolves with its headers. eventsource-parser parses the frames, not Belay's code. */
export function openEvents(
  url: string,
  { token, lastId, onEvent }: { token: string; lastId?: string; onEvent?: (event: BelayEvent) => void },
): Promise<EventClient> {
  return new Promise((resolve, reject) => {
    const asked = request(
      url,
      {
        agent: false,
        headers: {
          authorization: `Bearer ${token}`,
          accept: 'text/event-stream',
          ...(lastId === undefined ? {} : { 'last-event-id': lastId }),
        },
      },
      (response) => resolve(follow(response, onEvent)),
    );
    asked.once('error', reject);
    asked.end();
  });
}

function follow(response: IncomingMessage, onEvent?: (event: BelayEvent) => void): EventClient {
  const frames: StreamFrame[] = [];
  const comments: string[] = [];
  let retryMs: number | undefined;
  const parser = createParser({
    onEvent: ({ event = 'message', id, data }) => {
      const frame = { event, data: JSON.parse(data) as unknown, ...(id === undefined ? {} : { id }) };
      frames.push(frame);
      if (event === 'event') onEvent?.(frame.data as BelayEvent);
    },
    onComment: (comment) => comments.push(comment),
    onRetry: (ms) => (retryMs = ms),
  });
  const decoder = new TextDecoder();
  response.on('data', (chunk: Buffer) => parser.feed(decoder.decode(chunk, { stream: true })));
  // The server or this client cut the connection.
  response.on('error', () => undefined);
  const closed = new Promise<void>((done) => response.once('close', () => done()));
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    frames,
    comments,
    retryMs: () => retryMs,
    events: () => frames.filter(({ event }) => event === 'event').map(({ data }) => data as BelayEvent),
    lastId: () => frames.findLast(({ id }) => id !== undefined)?.id,
    closed,
    frame: async (name) =>
      eventually(async () => frames.find(({ event }) => event === name), `a ${name} frame`),
    pause: () => response.pause(),
    resume: () => response.resume(),
    destroy: () => response.destroy(),
  };
}
