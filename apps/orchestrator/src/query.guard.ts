import { SetMetadata, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { BelayError, NameSuggester, type Problem } from '#libs/contracts';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import type { Query } from './query';

const TAKES = 'belay:query';

/** The query parameters a route reads. A route without it takes none. */
export const TakesQuery = (...names: string[]): MethodDecorator => SetMetadata(TAKES, names);

/**
 * A parameter nobody reads is refused before anything is done: a misspelt `dryRun` must not become a kill. Probes and
 * scrapers outside of /api may add what they like.
 */
export class QueryGuard implements CanActivate {
  private readonly reflector = new Reflector();

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<FastifyRequest<{ Querystring: Query }>>();
    if (!request.url.startsWith('/api/')) return true;
    const takes = this.reflector.get<string[] | undefined>(TAKES, context.getHandler()) ?? [];
    const problems = Object.keys(request.query)
      .filter((name) => !takes.includes(name))
      .map((name) => unknown(name, takes));
    if (problems.length === 0) return true;
    throw new BelayError('INVALID_REQUEST', 'The query is not valid; nothing was done.', { problems });
  }
}

function unknown(name: string, takes: readonly string[]): Problem {
  const known = takes.length === 0 ? 'this route takes none' : `known here: ${takes.join(', ')}`;
  const meant = new NameSuggester().nearest(name, takes);
  const hint = meant === undefined ? '' : ` Did you mean ${meant}?`;
  return { path: name, code: 'UNKNOWN_FIELD', message: `unknown query parameter; ${known}.${hint}` };
}
