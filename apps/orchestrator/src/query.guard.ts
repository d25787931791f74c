import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { BelayError, NameSuggester, ruleOf, type Problem } from '#libs/contracts';
import type { FastifyRequest } from 'fastify';
import type { Query } from './query';

/**
 * Refuses an unknown parameter before anything is done: a misspelt `dryRun` must not become a kill. Probes and scrapers outside
 * of /api may add any parameter.
 */
export class QueryGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<FastifyRequest<{ Querystring: Query }>>();
    if (!request.url.startsWith('/api/')) return true;
    const takes = ruleOf(request.method, request.routeOptions.url ?? '')?.query ?? [];
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
