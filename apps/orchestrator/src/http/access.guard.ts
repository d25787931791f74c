import type { CanActivate, ExecutionContext } from '@nestjs/common';
import type { Ownership } from '#libs/access';
import {
  BelayError,
  boundError,
  isStopping,
  requirePermission,
  ruleOf,
  validateKillRequest,
  validateLatchRequest,
  type Caller,
  type RouteRule,
  type Scope,
  type Subject,
} from '#libs/contracts';
import type { FastifyRequest } from 'fastify';
import type { Query } from '../query';
import { callerOf } from './caller';
import type { RequestRates } from './request-rates';
import { secretOf } from './token-gate';

type Request = FastifyRequest<{ Querystring: Query; Params: { readonly id?: string } }>;

/** The scope in the body of each route that has one. */
const SCOPES: Readonly<Record<string, (body: unknown) => Scope>> = {
  '/api/killswitch': (body) => validateKillRequest(body).scope,
  '/api/latches': (body) => validateLatchRequest(body).scope,
};

/** The rule of a request's route. @throws BelayError FORBIDDEN for a route without a rule */
export function ruleOfRequest({ method, routeOptions }: Pick<Request, 'method' | 'routeOptions'>): RouteRule {
  const rule = ruleOf(method, routeOptions.url ?? '');
  if (rule !== undefined) return rule;
  throw new BelayError(
    'FORBIDDEN',
    `${method} ${routeOptions.url} has no entry in the table of routes, so nobody may use it. Nothing was done.`,
  );
}

/**
 * Whether a caller may make a request, by the table of routes (docs/tokens.md#every-route). The gate has checked the permission
 * and the rate of the route itself. This guard checks flags and fields that need a further permission, and whether the caller
 * owns the request's subject.
 */
export class AccessGuard implements CanActivate {
  private readonly checks: Readonly<
    Record<Subject, (caller: Caller, request: Request) => Promise<void> | void>
  >;

  constructor(
    own: Ownership,
    private readonly rates: RequestRates,
  ) {
    const id = ({ params }: Request): string => params.id ?? '';
    this.checks = {
      execution: async (caller, request) => own.requireExecution(caller, id(request)),
      agent: async (caller, request) => own.requireAgent(caller, id(request)),
      order: async (caller, request) => own.requireOrder(caller, id(request)),
      latch: async (caller, request) => own.requireLatch(caller, id(request)),
      named: async (caller, { body }) => {
        const named = fieldOf(body, 'executionId');
        // Without an id the handler reports the missing field.
        if (typeof named === 'string') await own.requireExecution(caller, named);
      },
      scope: async (caller, { body, routeOptions }) => {
        const scopeOf = SCOPES[routeOptions.url ?? ''];
        if (caller.selector === undefined) return;
        if (scopeOf === undefined) throw boundError(caller, 'the scope of this request is not known.');
        await own.requireScope(caller, scopeOf(body));
      },
      spec: (caller, { body }) => own.requireSpec(caller, body),
      fleet: (caller) => {
        if (caller.selector !== undefined) throw boundError(caller, 'this is about the whole fleet.');
      },
      // The handler leaves out things that the caller does not own.
      list: () => undefined,
      self: () => undefined,
    };
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<Request>();
    const rule = ruleOfRequest(request);
    if (rule.needs === 'none') return true;
    const caller = callerOf(request);
    const { flag, field } = rule;
    if (flag !== undefined && isSet(request.query[flag.name])) requirePermission(caller, flag.needs);
    if (field !== undefined && fieldOf(request.body, field.name) === field.value) {
      requirePermission(caller, field.needs);
      // The gate took it for the stop that this route is else.
      if (isStopping(rule)) this.rates.take(secretOf(request.headers.authorization));
    }
    await this.checks[rule.about](caller, request);
    return true;
  }
}

/** Whether a flag is set to anything but a plain no, even to a value that the handler will refuse. */
function isSet(value: string | string[] | undefined): boolean {
  return value !== undefined && [value].flat().some((text) => text !== '0' && text !== 'false');
}

function fieldOf(body: unknown, name: string): unknown {
  return typeof body === 'object' && body !== null && Object.hasOwn(body, name)
    ? (body as Record<string, unknown>)[name]
    : undefined;
}
