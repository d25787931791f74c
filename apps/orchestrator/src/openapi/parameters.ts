import {
  AGENT_MACHINE,
  EVENT_ENTITIES,
  EVENT_STATES,
  EVENT_TYPES,
  EXECUTION_MACHINE,
  ID_PATTERNS,
  NODE_MACHINE,
  SPEC_LIMITS,
  statesOf,
  type RouteRule,
} from '#libs/contracts';
import type { Kind } from './operation.types';

type Json = Readonly<Record<string, unknown>>;

/** What an `:id` names, by the beginning of its path. */
const KINDS: readonly (readonly [prefix: string, kind: Kind])[] = [
  ['/api/executions/:id', 'execution'],
  ['/api/agents/:id', 'agent'],
  ['/api/killswitch/:id', 'order'],
  ['/api/latches/:id', 'latch'],
  ['/api/asks/:id', 'question'],
  ['/api/tokens/:name', 'token'],
  ['/api/webhooks/:name', 'webhook'],
];
const NAME = '^[A-Za-z0-9_.-]{1,64}$';

/** What a route is about, and the parameter of its path that names it. */
export function kindOf(path: string): { readonly kind: Kind; readonly parameter: string } | undefined {
  const found = KINDS.find(([prefix]) => path === prefix || path.startsWith(`${prefix}/`));
  return found && { kind: found[1], parameter: found[0].split(':')[1] ?? '' };
}

/** The parameters of a route: those of its path, the query of its row, and headers. */
export function parametersOf(rule: RouteRule, headers: readonly string[]): Json[] {
  const { path } = rule;
  return [
    ...[...path.matchAll(/:(\w+)/g)].map(([, name = '']) => pathParameter(name, path)),
    ...rule.query.map((name) => ({ name, in: 'query', ...queryParameter(name, rule) })),
    ...headers.map((name) => ({ name, in: 'header', ...HEADERS[name] })),
  ];
}

function pathParameter(name: string, path: string): Json {
  const kind = name === 'id' ? kindOf(path)?.kind : undefined;
  const pattern =
    kind === undefined ? NAME : kind === 'question' ? '^ask_' : ID_PATTERNS[kind as 'execution'].source;
  const description =
    kind === undefined ? (NAMES[name] ?? `The name of the ${kindOf(path)?.kind}.`) : `The id of the ${kind}.`;
  const isSignal = path.includes('/signals/');
  return {
    name,
    in: 'path',
    required: true,
    description: isSignal && name === 'name' ? 'The name of the signal.' : description,
    schema: { type: 'string', pattern },
    ...(kind === undefined ? { example: EXAMPLES[isSignal ? `signal` : name] ?? 'pager' } : {}),
  };
}

const NAMES: Readonly<Record<string, string>> = {
  nodeId: 'The id of the node in its spec.',
  pool: 'The name of the pool.',
};
const EXAMPLES: Readonly<Record<string, string>> = { nodeId: 'a', pool: 'gpu', signal: 'paid' };

const HEADERS: Readonly<Record<string, Json>> = {
  'Idempotency-Key': {
    description:
      "As the spec's idempotencyKey, which takes precedence. The same key and the same spec give the same execution.",
    schema: { type: 'string', pattern: `^[\\x20-\\x7e]{1,${SPEC_LIMITS.maxTextLength}}$` },
  },
  traceparent: {
    description:
      "The caller's place in a trace (W3C Trace Context). Left out if it is broken, or without a collector.",
    schema: { type: 'string' },
  },
  'Last-Event-ID': {
    description: 'The id of the last frame that the client has: the stream goes on after it.',
    schema: { type: 'string' },
  },
};

/** Of each list: the default and the largest size of a page. */
const PAGES: Readonly<Record<string, readonly [usual: number, most: number]>> = {
  '/api/executions': [50, 1_000],
  '/api/executions/:id/nodes': [1_000, 10_000],
  '/api/agents': [200, 10_000],
  '/api/killswitch': [50, 1_000],
  '/api/asks': [100, 1_000],
  '/api/audit': [100, 10_000],
};

/** Flags that are on unless the query says otherwise. */
const ON: ReadonlySet<string> = new Set(['start', 'queue', 'POST wait']);
const FLAGS: Readonly<Record<string, string>> = {
  start: 'False leaves it idle.',
  queue: 'False: 429 LIMITED if a limit keeps one of its first nodes from starting now.',
  wait: 'Whether to wait for the end.',
  dryRun: 'Only says what would be done; nothing is stored or changed.',
  unproved: 'Only receipts that are neither complete nor closed by a person.',
  lost: 'Instead, workers whose lease ran out within the last hour.',
  follow: 'The lines as an event stream.',
  cancelOnDisconnect: 'When this client disconnects and is not back within 5 s, the execution is stopped.',
};

function queryParameter(name: string, { method, path }: RouteRule): Json {
  if (Object.hasOwn(FLAGS, name)) {
    const isOn = ON.has(name) || ON.has(`${method} ${name}`);
    return {
      description: FLAGS[name],
      schema: { type: 'string', enum: ['1', 'true', '0', 'false'], default: isOn ? 'true' : 'false' },
    };
  }
  if (name === 'limit') {
    const [usual, most] = PAGES[path] ?? [];
    return {
      description: 'The size of the page.',
      schema: { type: 'integer', minimum: 1, maximum: most, default: usual },
    };
  }
  if (name === 'cursor') return { description: "The last answer's nextCursor.", schema: { type: 'string' } };
  if (name === 'label') return labelParameter(path);
  const words = wordsOf(name, path);
  if (words !== undefined)
    return {
      description: words.says,
      style: 'form',
      explode: false,
      schema: { type: 'array', items: { type: 'string', enum: words.of } },
    };
  return { description: TEXTS[name] ?? '', schema: { type: 'string' } };
}

const TEXTS: Readonly<Record<string, string>> = {
  owner: 'The id of a worker.',
  executionId: 'Only of that execution.',
};

function labelParameter(path: string): Json {
  const says =
    path === '/api/events'
      ? 'A selector over the labels of the execution, such as team=data,env!=prod; every one must match.'
      : 'k=v; every one must match.';
  return {
    description: says,
    style: 'form',
    explode: true,
    schema: { type: 'array', items: { type: 'string' } },
    example: ['team=data'],
  };
}

/** A comma-separated list of words that a route knows. */
function wordsOf(
  name: string,
  path: string,
): { readonly says: string; readonly of: readonly string[] } | undefined {
  if (name === 'type')
    return { says: 'Types, or the entity for all of its types.', of: [...EVENT_ENTITIES, ...EVENT_TYPES] };
  if (name !== 'state' && name !== 'status') return undefined;
  const says = name === 'status' ? 'As state.' : 'Only these states.';
  if (path === '/api/events') return { says: 'Only changes to these states.', of: EVENT_STATES };
  if (path === '/api/agents')
    return { says: 'Only these states. Default: spawning,running.', of: statesOf(AGENT_MACHINE) };
  if (path === '/api/executions') return { says, of: statesOf(EXECUTION_MACHINE) };
  return { says, of: statesOf(NODE_MACHINE) };
}
