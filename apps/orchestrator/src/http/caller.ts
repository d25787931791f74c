import type { IncomingMessage } from 'node:http';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Caller } from '#libs/contracts';
import type { FastifyRequest } from 'fastify';

type WithRaw = Pick<FastifyRequest, 'raw'>;

const CALLERS = new WeakMap<IncomingMessage, Caller>();

/** Keeps who makes a request: the gate knows it before the body is read. */
export function keepCaller({ raw }: WithRaw, caller: Caller): void {
  CALLERS.set(raw, caller);
}

/** Who makes a request. @throws Error for a request that the gate let in without a token */
export function callerOf({ raw }: WithRaw): Caller {
  const caller = CALLERS.get(raw);
  if (caller === undefined) throw new Error('The gate let a request in without a caller.');
  return caller;
}

/** The parameter of a handler that gets who makes the request. */
export const Who = createParamDecorator((_: unknown, context: ExecutionContext): Caller =>
  callerOf(context.switchToHttp().getRequest<FastifyRequest>()),
);
