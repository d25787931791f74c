import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Ownership, TokenStore } from '#libs/access';
import { BelayError, SPEC_LIMITS, type DefaultRate } from '#libs/contracts';
import type { ServiceLog } from '#libs/service';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Registry } from 'prom-client';
import type { OrchestratorModule } from '../orchestrator.module';
import { EventStreams } from '../event-streams';
import { countRefusals } from '../metrics/count-refusals';
import { RetryReadsInterceptor } from '../retry-reads.interceptor';
import { ProblemFilter, toProblem } from '../problem.filter';
import { QueryGuard } from '../query.guard';
import { AccessGuard } from './access.guard';
import { answerClientError } from './client-error';
import { RequestGate } from './request-gate';
import { RequestRates } from './request-rates';
import { TokenGate } from './token-gate';

/** The head of a request may take this long, however long its body may take. Milliseconds. */
const HEAD_MS = 15_000;
/** The interval of Node's looks for connections that have passed a time-out. Milliseconds. */
const LOOK_MS = 1_000;

export interface HttpOptions {
  readonly token: string;
  readonly requestTimeoutMs: number;
  /** The bound of tokens that have none of their own. */
  readonly rate: DefaultRate;
  readonly log: ServiceLog;
}

/** The HTTP server of an orchestrator, not yet listening, and the gate for its requests. */
export async function makeHttp(
  modules: ReturnType<typeof OrchestratorModule.forRoot>,
  { token, requestTimeoutMs, rate, log }: HttpOptions,
): Promise<{ app: NestFastifyApplication; gate: RequestGate }> {
  const adapter = new FastifyAdapter({
    bodyLimit: SPEC_LIMITS.maxBodyBytes,
    forceCloseConnections: true,
    // These limits end with the request: a wait for a stop, or a stream, may last longer.
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: Math.min(HEAD_MS, requestTimeoutMs), connectionsCheckingInterval: LOOK_MS },
    clientErrorHandler: answerClientError,
    // An unroutable URL (broken, or too long) gets an error in the usual form.
    frameworkErrors: (error: unknown, _request: FastifyRequest, reply: FastifyReply) => {
      const problem = toProblem(error);
      void reply
        .status(problem.status)
        .header('content-type', 'application/problem+json')
        .send(JSON.stringify(problem));
    },
  });
  const app = await NestFactory.create<NestFastifyApplication>(modules, adapter, {
    logger: false,
    abortOnError: false,
    bodyParser: false,
  });
  const fastify: FastifyInstance = app.getHttpAdapter().getInstance();
  const tokens = new TokenGate(token, app.get(TokenStore));
  app.get(EventStreams).isTokenValid = ({ headers }) => tokens.isStillValid(headers.authorization);
  const rates = new RequestRates(rate, countRefusals(app.get(Registry)));
  const gate = new RequestGate(tokens, rates);
  gate.install(fastify);
  acceptJson(fastify);
  app.useGlobalFilters(new ProblemFilter(log));
  app.useGlobalGuards(new QueryGuard(), new AccessGuard(app.get(Ownership), rates));
  app.useGlobalInterceptors(new RetryReadsInterceptor());
  return { app, gate };
}

/** Bodies are JSON in UTF-8, parsed strictly: an unreadable body is refused before any handler sees it. */
function acceptJson(fastify: FastifyInstance): void {
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    try {
      done(null, JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body as Buffer)));
    } catch (cause) {
      const what = cause instanceof TypeError ? 'is not UTF-8' : `is not JSON (${(cause as Error).message})`;
      done(new BelayError('INVALID_JSON', `The body ${what}.`, { cause }), undefined);
    }
    return undefined;
  });
}
