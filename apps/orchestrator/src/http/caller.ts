import type { IncomingMessage } from 'node:http';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Caller } from '#libs/contracts';
import type { FastifyRequest } from 'fastify';

type WithRaw = Pick<FastifyRequest, 'raw'>;

const CALLERS = new WeakMap<IncomingMessage, Caller>();

/** Keeps the caller of a request: the gate knows the caller before the body is read. */
export function keepCaller({ raw }: WithRaw, caller: Caller): void {
  CALLERS.set(raw, caller);
}

/** The caller of a request. @throws Error for a request that the gate let in without a token */
export function callerOf({ raw }: WithRaw): Caller {
  const caller = CALLERS.get(raw);
  if (caller === undefined) throw new Error('The gate let a request in without a caller.');
  return caller;
}

/** A handler's parameter that gets the caller of the request. */
export const Who = createParamDecorator((_: unknown, context: ExecutionContext): Caller =>
  callerOf(context.switchToHttp().getRequest<FastifyRequest>()),
);
