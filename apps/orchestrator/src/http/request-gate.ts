import type { IncomingMessage } from 'node:http';
import type { TokenHolder } from '#libs/access';
import {
  BelayError,
  isBelayError,
  isStopping,
  requirePermission,
  SPEC_LIMITS,
  type Caller,
} from '#libs/contracts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ulid } from 'ulid';
import { ruleOfRequest } from './access.guard';
import { keepCaller } from './caller';
import { KnownRoutes } from './known-routes';
import type { RequestRates } from './request-rates';
import { secretOf, type TokenGate } from './token-gate';

/** Routes that take an execution's spec; every other body is a few fields. */
const TAKES_SPEC = new Set(['/api/executions', '/api/agents']);
const SMALL_BODY_BYTES = 64 * 1024;
/**
 * Bytes of specs that are read, checked and stored at a time, in all requests together. A parsed spec takes several times its
 * text, and every large one blocks the event loop that kills need.
 */
const SPECS_IN_FLIGHT_BYTES = 4 * SPEC_LIMITS.maxBodyBytes;
/** A refused client may go on sending for this long, so that it reads the refusal before it is cut off. Milliseconds. */
const LINGER_MS = 1_000;

/**
 * The first check of every request, before a byte of its body is read: whether its method and path exist, who the caller is,
 * whether the caller may use that route and keeps to its rate, and whether there is room for the body. A caller without a token
 * costs a socket for a second, and no memory.
 */
export class RequestGate {
  private readonly routes = new KnownRoutes();
  private inFlight = 0;
  /** Requests that are not answered yet. */
  private readonly answering = new Set<Promise<void>>();
  private closed = false;

  constructor(
    private readonly tokens: TokenGate,
    private readonly rates: RequestRates,
  ) {}

  /** Every existing route, as `GET /api/executions/:id`. */
  served(): string[] {
    return this.routes.list();
  }

  /** Must be called before the routes are made. */
  install(fastify: FastifyInstance): void {
    fastify.addHook('onRoute', (route) => {
      this.routes.add(route.method, route.url);
      route.bodyLimit = limitOf(route.url);
    });
    fastify.addHook('onRequest', async (request, reply) => {
      reply.raw.once('finish', () => cutUnread(request.raw));
      this.follow(reply);
      const requestId = `req_${ulid()}`;
      void reply.header('x-request-id', requestId);
      const holder = await this.holderOf(request, reply);
      const refusal = this.refusal(request, reply, holder && { ...holder, requestId });
      if (refusal !== undefined) throw refusal;
    });
  }

  /**
   * Refuses every further request with DRAINING. Resolves when those under way are answered, so that none is cut off in the
   * middle of storing an order.
   */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all(this.answering);
  }

  private follow({ raw }: FastifyReply): void {
    const answered = new Promise<void>((resolve) => raw.once('close', resolve));
    this.answering.add(answered);
    void answered.then(() => this.answering.delete(answered));
  }

  /** The holder of the request's token; undefined where the route needs none. @throws BelayError */
  private async holderOf(
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<Omit<Caller, 'requestId'> | undefined> {
    if (this.closed) {
      void reply.header('connection', 'close');
      throw new BelayError('DRAINING', 'This orchestrator is stopping. Nothing was done; ask another one.');
    }
    const rule = request.is404 ? undefined : ruleOfRequest(request);
    if (rule?.needs === 'none') return undefined;
    const { authorization } = request.headers;
    const stops = rule !== undefined && isStopping(rule);
    const visit = { secret: secretOf(authorization), address: request.ip, stops };
    const wasCounted = this.rates.admit(visit);
    let holder: TokenHolder;
    try {
      holder = await this.tokens.holderOf(authorization);
    } catch (error) {
      if (isBelayError(error) && error.code === 'UNAUTHORIZED') {
        this.rates.refused(visit);
        void reply.header('www-authenticate', 'Bearer realm="belay"');
      }
      throw error;
    }
    this.rates.accept(visit, holder, wasCounted);
    const { rate: _, ...caller } = holder;
    return caller;
  }

  private refusal(
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Caller | undefined,
  ): BelayError | undefined {
    const path = request.url.split('?')[0] ?? '';
    if (request.is404) return this.routes.refusal(request.method, path, reply);
    if (caller !== undefined) {
      const { needs } = ruleOfRequest(request);
      if (needs !== 'none') requirePermission(caller, needs);
      keepCaller(request, caller);
    }
    const { headers } = request;
    const limit = limitOf(path);
    // A body without a length may become as long as is allowed; Fastify counts it.
    const bytes = headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : limit;
    if (bytes > limit)
      return new BelayError(
        'PAYLOAD_TOO_LARGE',
        `The body of ${path} may have at most ${limit} bytes; it has ${bytes}.`,
      );
    return TAKES_SPEC.has(path) ? this.takeRoom(bytes, reply) : undefined;
  }

  /** Reserves room for a spec's body until its request is answered. */
  private takeRoom(bytes: number, { raw }: FastifyReply): BelayError | undefined {
    if (this.inFlight + bytes > SPECS_IN_FLIGHT_BYTES)
      return new BelayError(
        'RATE_LIMITED',
        'Other specs are being read, and there is no room for this one. Nothing was done; send it again in a moment.',
      );
    // The caller left during the look-up of its token, and sends nothing more.
    if (raw.closed) return undefined;
    this.inFlight += bytes;
    raw.once('close', () => (this.inFlight -= bytes));
    return undefined;
  }
}

function limitOf(path: string): number {
  return TAKES_SPEC.has(path) ? SPEC_LIMITS.maxBodyBytes : SMALL_BODY_BYTES;
}

/** Ends the reading of a body that no handler wants: otherwise Node would drop bytes for as long as they come. */
function cutUnread(message: IncomingMessage): void {
  if (message.complete) return;
  const timer = setTimeout(() => message.complete || message.destroy(), LINGER_MS);
  message.once('close', () => clearTimeout(timer));
}
