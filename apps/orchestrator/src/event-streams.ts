import { Inject, Injectable } from '@nestjs/common';
import { OrchestratorService } from '#libs/orchestrator';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { SseStream } from './sse';

/** The interval of checks whether the token of an open stream is still valid. Milliseconds. */
const TOKEN_LOOK_MS = 5_000;

/** The token of the EventStreamsOptions. */
export const EVENT_STREAMS_OPTIONS = Symbol('belay.event-streams-options');

export interface EventStreamsOptions {
  /** After this silence a stream gets a comment. Milliseconds. */
  readonly keepAliveMs: number;
}

/** The event streams of this orchestrator's clients. */
@Injectable()
export class EventStreams {
  constructor(
    @Inject(OrchestratorService) private readonly orchestrator: OrchestratorService,
    @Inject(EVENT_STREAMS_OPTIONS) private readonly options: EventStreamsOptions,
  ) {}

  /** Whether a request's token is still valid; `true` at once for a token that cannot be revoked. */
  isTokenValid: (request: FastifyRequest) => Promise<boolean> | true = () => true;

  /** Aborted when the drain begins: streams end. */
  get closing(): AbortSignal {
    return this.orchestrator.closing.signal;
  }

  /** Turns the response into an event stream. A drain lets the stream end before connections are closed. */
  open(reply: FastifyReply): SseStream {
    const stream = new SseStream(reply, this.options.keepAliveMs);
    const { closed } = stream;
    this.orchestrator.track(closed);
    const looking =
      this.isTokenValid(reply.request) === true ? undefined : this.watchToken(reply.request, stream);
    void closed.then(() => clearInterval(looking));
    return stream;
  }

  /** Ends a stream when its token is revoked or has expired, since a stream may last for days. */
  private watchToken(request: FastifyRequest, stream: SseStream): NodeJS.Timeout {
    const look = async (): Promise<void> => {
      // While the state server is away, no token counts as revoked.
      if (await Promise.resolve(this.isTokenValid(request)).catch(() => true)) return;
      stream.send('unauthorized', { reason: 'The token of this stream is not valid any more.' });
      stream.end();
    };
    return setInterval(() => void look(), TOKEN_LOOK_MS).unref();
  }
}
