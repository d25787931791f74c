import { BelayError } from '#libs/contracts';
import type { FastifyReply } from 'fastify';

/** The existing routes, which tell a wrong method from a wrong path. */
export class KnownRoutes {
  private readonly methods = new Map<string, { readonly path: RegExp; readonly allowed: Set<string> }>();

  add(method: string | readonly string[], url: string): void {
    const found = this.methods.get(url) ?? { path: toPattern(url), allowed: new Set<string>() };
    for (const name of [method].flat()) found.allowed.add(name);
    this.methods.set(url, found);
  }

  /** Each method with its path, as declared. */
  list(): string[] {
    return [...this.methods].flatMap(([url, { allowed }]) =>
      [...allowed].map((method) => `${method} ${url}`),
    );
  }

  /** The error for a request without a route. Sets `Allow` where the path has other methods. */
  refusal(method: string, path: string, reply: FastifyReply): BelayError {
    const allowed = [...this.methods.values()]
      .filter((route) => route.path.test(path))
      .flatMap((route) => [...route.allowed]);
    if (allowed.length === 0)
      return new BelayError('NOT_FOUND', `There is no route ${method} ${path}. docs/http-api.md lists them.`);
    const list = [...new Set(allowed)].sort().join(', ');
    void reply.header('allow', list);
    return new BelayError('METHOD_NOT_ALLOWED', `${path} takes ${list}, not ${method}.`);
  }
}

/** `/api/executions/:id` as a pattern; the fixed parts of our paths are letters and `-`. */
function toPattern(url: string): RegExp {
  const parts = url.split('/').map((part) => (part.startsWith(':') ? '[^/]+' : part));
  return new RegExp(`^${parts.join('/')}/?$`);
}
