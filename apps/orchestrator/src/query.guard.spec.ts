import type { ExecutionContext } from '@nestjs/common';
import { ROUTES, type BelayError } from '#libs/contracts';
import { QueryGuard } from './query.guard';

const guard = new QueryGuard();

/** A request for a route, as Fastify knows it. */
function contextOf(method: string, path: string, query: Record<string, string>): ExecutionContext {
  const request = { method, url: path, routeOptions: { url: path }, query };
  return { switchToHttp: () => ({ getRequest: () => request }) } as unknown as ExecutionContext;
}

function refusalOf(act: () => unknown): Pick<BelayError, 'code' | 'problems'> | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return error as BelayError;
  }
}

describe('the query parameters of a route', () => {
  it.each(ROUTES.map(({ method, path, query }) => [`${method} ${path}`, method, path, query] as const))(
    'are those of its row: %s',
    (_name, method, path, query) => {
      const given = Object.fromEntries(query.map((name) => [name, '1']));
      expect(guard.canActivate(contextOf(method, path, given))).toBe(true);
      if (!path.startsWith('/api/')) return;
      const refused = refusalOf(() =>
        guard.canActivate(contextOf(method, path, { ...given, nonsense: '1' })),
      );
      expect(refused).toMatchObject({
        code: 'INVALID_REQUEST',
        problems: [{ path: 'nonsense', code: 'UNKNOWN_FIELD' }],
      });
    },
  );

  it('are named where one is misspelt: it must not become a kill', () => {
    const refused = refusalOf(() => guard.canActivate(contextOf('POST', '/api/killswitch', { dryrun: '1' })));
    expect(refused?.problems[0]?.message).toBe(
      'unknown query parameter; known here: wait, dryRun. Did you mean dryRun?',
    );
  });

  it('of a HEAD request are those of its GET', () => {
    expect(guard.canActivate(contextOf('HEAD', '/api/executions', { limit: '1' }))).toBe(true);
  });
});
