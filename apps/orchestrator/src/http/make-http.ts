import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Ownership, TokenStore } from '#libs/access';
import { BelayError, SPEC_LIMITS } from '#libs/contracts';
import type { ServiceLog } from '#libs/service';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { OrchestratorModule } from '../orchestrator.module';
import { OrchestratorService } from '../orchestrator.service';
import { RetryReadsInterceptor } from '../retry-reads.interceptor';
import { ProblemFilter, toProblem } from '../problem.filter';
import { QueryGuard } from '../query.guard';
import { AccessGuard } from './access.guard';
import { answerClientError } from './client-error';
import { RequestGate } from './request-gate';
import { TokenGate } from './token-gate';

/** Longest for the head of a request, however long its body may take. Milliseconds. */
const HEAD_MS = 15_000;
/** How often Node looks for connections that have passed a time-out. Milliseconds. */
const LOOK_MS = 1_000;

export interface HttpOptions {
  readonly token: string;
  readonly requestTimeoutMs: number;
  readonly log: ServiceLog;
}

/** The HTTP server of an orchestrator, not yet listening, and the gate that its requests pass. */
export async function makeHttp(
  modules: ReturnType<typeof OrchestratorModule.forRoot>,
  { token, requestTimeoutMs, log }: HttpOptions,
): Promise<{ app: NestFastifyApplication; gate: RequestGate }> {
  const adapter = new FastifyAdapter({
    bodyLimit: SPEC_LIMITS.maxBodyBytes,
    forceCloseConnections: true,
    // They end with the request: a wait for a stop, or a stream, may last.
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: Math.min(HEAD_MS, requestTimeoutMs), connectionsCheckingInterval: LOOK_MS },
    clientErrorHandler: answerClientError,
    // A URL that cannot be routed (broken, or too long) is answered in the same form as everything else.
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
  app.get(OrchestratorService).isTokenValid = ({ headers }) => tokens.isStillValid(headers.authorization);
  const gate = new RequestGate(tokens);
  gate.install(fastify);
  acceptJson(fastify);
  app.useGlobalFilters(new ProblemFilter(log));
  app.useGlobalGuards(new QueryGuard(), new AccessGuard(app.get(Ownership)));
  app.useGlobalInterceptors(new RetryReadsInterceptor());
  return { app, gate };
}

/** Bodies are JSON in UTF-8, read strictly: what cannot be read is refused before anything looks at it. */
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
