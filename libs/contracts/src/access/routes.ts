import type { Permission } from './roles';

/**
 * The subject of a request, for tokens that are bound to labels. `execution`, `agent`, `order`, `latch`: the token must own the
 * thing that `:id` names. `named`: the same for the body's `executionId`. `scope`: the body's scope must lie within the
 * token's. `spec`: so must the labels of the body's spec. `list`: the answer leaves out things that the token does not own.
 * `fleet`: the whole fleet, so bound tokens are refused. `self`: nothing of other callers.
 */
export type Subject =
  'execution' | 'agent' | 'order' | 'latch' | 'named' | 'scope' | 'spec' | 'list' | 'fleet' | 'self';

/** The rule of one route. */
export interface RouteRule {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** As in the controller. */
  readonly path: string;
  /** `none`: the route needs no token. */
  readonly needs: Permission | 'none';
  readonly about: Subject;
  /** The query parameters that the route reads; every other one is refused. */
  readonly query: readonly string[];
  /** A query flag that needs a further permission. */
  readonly flag?: { readonly name: string; readonly needs: Permission };
  /** A value of a body's field that needs a further permission. */
  readonly field?: { readonly name: string; readonly value: string; readonly needs: Permission };
}

const get = (
  path: string,
  needs: RouteRule['needs'],
  about: Subject,
  query: readonly string[] = [],
): RouteRule => ({ method: 'GET', path, needs, about, query });
const post = (path: string, needs: Permission, about: Subject, query: readonly string[] = []): RouteRule => ({
  method: 'POST',
  path,
  needs,
  about,
  query,
});

/**
 * Every route of the HTTP interface, with the permission that it needs, and its subject. A route that is not in this table is
 * refused to everybody. A HEAD request has the rule of its GET.
 */
export const ROUTES: readonly RouteRule[] = [
  get('/', 'none', 'self'),
  get('/health', 'none', 'self'),
  get('/health/live', 'none', 'self'),
  get('/health/ready', 'none', 'self'),
  // They describe the interface and say nothing of the fleet; a browser sends no token.
  get('/api/openapi.json', 'none', 'self'),
  get('/api/docs', 'none', 'self'),
  get('/metrics', 'view', 'fleet'),

  post('/api/executions', 'submit', 'spec', ['start', 'queue']),
  get('/api/executions', 'view', 'list', ['state', 'status', 'label', 'cursor', 'limit']),
  get('/api/executions/:id', 'view', 'execution'),
  { method: 'DELETE', path: '/api/executions/:id', needs: 'operate', about: 'execution', query: [] },
  get('/api/executions/:id/nodes', 'view', 'execution', ['state', 'cursor', 'limit']),
  get('/api/executions/:id/nodes/:nodeId', 'view', 'execution'),
  {
    ...get('/api/executions/:id/events', 'view', 'execution', ['cancelOnDisconnect']),
    // The loss of such a client stops the execution.
    flag: { name: 'cancelOnDisconnect', needs: 'halt' },
  },
  get('/api/events', 'view', 'list', ['type', 'state', 'label']),
  post('/api/executions/:id/start', 'submit', 'execution'),
  post('/api/executions/:id/pause', 'halt', 'execution'),
  post('/api/executions/:id/resume', 'submit', 'execution'),
  post('/api/executions/:id/retry', 'submit', 'execution'),
  post('/api/executions/:id/signals/:name', 'submit', 'execution'),
  post('/api/executions/:id/stop', 'halt', 'execution', ['wait']),
  post('/api/execute/stop', 'halt', 'named'),

  post('/api/agents', 'submit', 'spec', ['queue']),
  get('/api/agents', 'view', 'list', ['state', 'owner', 'executionId', 'cursor', 'limit']),
  get('/api/agents/:id', 'view', 'agent'),
  get('/api/agents/:id/logs', 'view', 'agent', ['follow']),
  post('/api/agents/:id/kill', 'halt', 'agent'),

  // A thaw lets frozen agents go on.
  {
    ...post('/api/killswitch', 'stop', 'scope', ['wait', 'dryRun']),
    field: { name: 'kind', value: 'thaw', needs: 'release' },
  },
  get('/api/killswitch', 'view', 'list', ['unproved', 'cursor', 'limit']),
  get('/api/killswitch/:id', 'receipt', 'order', ['wait']),
  post('/api/killswitch/:id/release', 'release', 'order'),
  post('/api/killswitch/:id/close', 'operate', 'order'),
  post('/api/killswitch/drill', 'operate', 'fleet'),
  get('/api/killswitch/drill', 'view', 'fleet'),
  post('/api/killswitch/armed', 'view', 'fleet'),
  post('/api/latches', 'stop', 'scope'),
  get('/api/latches', 'view', 'list'),
  get('/api/latches/:id', 'view', 'latch'),
  post('/api/latches/:id/release', 'release', 'latch'),

  // The answer is not filtered by the asking agent's owner yet, so bound tokens are refused.
  get('/api/asks', 'view', 'fleet', ['executionId', 'cursor', 'limit']),
  get('/api/asks/:id', 'view', 'fleet'),
  post('/api/asks/:id', 'answer', 'fleet'),

  get('/api/workers', 'view', 'fleet', ['lost']),
  get('/api/queues', 'view', 'fleet'),
  get('/api/queues/:pool', 'view', 'fleet'),
  post('/api/queues/:pool/pause', 'operate', 'fleet'),
  post('/api/queues/:pool/resume', 'operate', 'fleet'),
  post('/api/queues/:pool/remove', 'operate', 'fleet', ['dryRun']),
  get('/api/limits', 'view', 'fleet'),
  { method: 'PUT', path: '/api/limits', needs: 'operate', about: 'fleet', query: [] },
  get('/api/webhooks', 'view', 'fleet'),
  get('/api/webhooks/:name/deliveries', 'view', 'fleet'),
  get('/api/quarantine', 'operate', 'fleet'),
  get('/api/audit', 'view', 'fleet', ['cursor', 'limit']),
  get('/api/audit/verify', 'view', 'fleet'),

  get('/api/tokens', 'admin', 'fleet'),
  post('/api/tokens', 'admin', 'fleet'),
  post('/api/tokens/:name/revoke', 'admin', 'fleet'),
];

const BY_ROUTE = new Map(ROUTES.map((rule) => [`${rule.method} ${rule.path}`, rule]));

/**
 * Whether a route only stops things. It is then never refused for the rate of its caller: a flood of requests must not take the
 * killswitch away (docs/tokens.md#rates).
 */
export const isStopping = ({ needs }: Pick<RouteRule, 'needs'>): boolean =>
  needs === 'halt' || needs === 'stop';

/** The rule of a route; undefined: there is none, and the route is refused. */
export function ruleOf(method: string, path: string): RouteRule | undefined {
  return BY_ROUTE.get(`${method === 'HEAD' ? 'GET' : method} ${path}`);
}
