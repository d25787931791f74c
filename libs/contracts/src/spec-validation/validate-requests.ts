import { z } from 'zod';
import { ID_PATTERNS, ULID_PATTERN } from '../ids';
import { MOST_RELEASERS } from '../latches';
import { MAX_LIMITS } from '../limits';
import { plainScope, type JobScope } from '../jobs';
import { isWide, type Scope } from '../scope';
import { STOP_REASONS } from '../records';
import { parseSelector } from '../selector';
import { SPEC_LIMITS } from '../spec';
import { isPlainObject } from './check-json';
import { invalidRequest, shape } from './check-request';
import { flag, line, milliseconds, NAME_PATTERN, oneOf, says, tokens, usd, wholeNumber } from './fields';
import type { Path, ProblemList } from './problem-list';
import { showValue } from './show-value';

/*
 * Each request body is written once, as a shape, which gives its type and its check. Every check throws BelayError
 * `INVALID_REQUEST` with all problems.
 */

/** A person's note. */
const words = () => line(1_024);
const grace = () => milliseconds(0, SPEC_LIMITS.maxGraceMs);
/** How many different people must release a latch. */
const releaseNeeds = () =>
  wholeNumber(1, MOST_RELEASERS, ' of people')
    .optional()
    .describe('How many different people must release the latch, 1 or 2.');

/** A body whose scope is checked by `checkScope`. */
type Scoped<Body> = Omit<Body, 'scope'> & { readonly scope: Scope };

const stopFields = {
  reason: oneOf(STOP_REASONS).optional(),
  note: words().optional().describe('A sentence for the record.'),
  mode: oneOf(['graceful', 'immediate'])
    .optional()
    .describe('graceful: stop signal, grace, SIGKILL. immediate: SIGKILL at once.'),
  /** Milliseconds; absent: each node's own. */
  graceMs: grace().optional().describe("Milliseconds; absent: each node's own."),
};
/** Checks the body of a stop. An absent body is a stop without a note. */
export const validateStopRequest = shape(stopFields, 'an object with reason, note, mode and graceMs', {
  orNothing: true,
});
/** The body of a stop; every field is optional. */
export type StopRequest = ReturnType<typeof validateStopRequest>;

const checkKill = shape(
  {
    /** Default `kill`. `thaw` is for one agent; a wider freeze ends with the release of its latch. */
    kind: oneOf(['kill', 'freeze', 'thaw'])
      .optional()
      .describe('Default kill. thaw is for one agent; a wider freeze ends with the release of its latch.'),
    scope: z.unknown().optional(),
    /** Whether a latch is engaged with the order. Default: for all, pool, selector and worker. */
    latch: flag()
      .optional()
      .describe('Engage a latch with the order. Default: for all, pool, selector and worker.'),
    /** Default: `BELAY_RELEASE_NEEDS` for a kill of everything, else 1. */
    releaseNeeds: releaseNeeds(),
    ...stopFields,
  },
  'an object with scope, kind, latch, releaseNeeds, reason, note, mode and graceMs',
  {
    more: (body, problems) => {
      checkScope(body, problems);
      if (problems.count === 0) checkKind(body as unknown as KillRequest, problems);
    },
  },
);
/** The body of an order: its kind and scope, and the fields of a stop. */
export type KillRequest = Scoped<ReturnType<typeof checkKill>>;

/** Checks the body of a kill. The scope is never guessed: `all` must be named. */
function toKillRequest(raw: unknown): KillRequest {
  const request = checkKill(raw) as KillRequest;
  const { kind = 'kill', scope: given } = request;
  const scope = plainScope(given);
  // A job ends with its kill, and its id is not used again, so a latch would have no effect.
  const isOne = !isWide(scope) || (kind === 'kill' && (given as Scope | JobScope).type === 'job');
  const { latch = kind !== 'thaw' && !isOne } = request;
  return { ...request, scope, kind, latch };
}
export const validateKillRequest = Object.assign(toKillRequest, { schema: checkKill.schema });

const checkLocalKill = shape(
  {
    scope: z.unknown().optional(),
    mode: oneOf(['graceful', 'immediate']),
    graceMs: grace().optional(),
    note: words().optional(),
    /** The user at the machine. */
    by: line(256),
  },
  'an object with scope, mode, graceMs, note and by',
  { more: checkScope },
);
/** The request that one worker takes on its local socket, without the server. */
export type LocalKillRequest = Scoped<ReturnType<typeof checkLocalKill>>;
export const validateLocalKill = (raw: unknown): LocalKillRequest =>
  withPlainScope(checkLocalKill(raw) as LocalKillRequest);

const workerRule = says('the id of a worker, wrk_ and what follows it');
export const validateDrillRequest = shape(
  {
    workerId: z
      .string(workerRule)
      .regex(new RegExp(`^wrk_${ULID_PATTERN}$`), workerRule)
      .optional(),
    /** Drills with an agent that attacks Belay, in place of process trees that resist. */
    hostile: flag().optional().describe('An agent attacks Belay, in place of process trees that resist.'),
  },
  'an object with workerId and hostile, or nothing for every worker',
  { orNothing: true },
);
/** The worker to drill; absent: every running one. */
export type DrillRequest = ReturnType<typeof validateDrillRequest>;

const checkLatch = shape(
  { scope: z.unknown().optional(), note: words().optional(), releaseNeeds: releaseNeeds() },
  'an object with scope, note and releaseNeeds',
  { more: checkScope },
);
/** The body of a latch without an order. */
export type LatchRequest = Scoped<ReturnType<typeof checkLatch>>;
export const validateLatchRequest = Object.assign(
  (raw: unknown): LatchRequest => withPlainScope(checkLatch(raw) as LatchRequest),
  { schema: checkLatch.schema },
);

export const validateNoteRequest = shape({ note: words() }, 'an object with note, the reason in your words', {
  orNothing: true,
});
/** The body of a release, or of the closing of an order: both need a reason. */
export type NoteRequest = ReturnType<typeof validateNoteRequest>;

export const validatePauseRequest = shape(
  {
    /** `drain` (default) lets running nodes finish, `freeze` stops them where they stand. */
    mode: oneOf(['drain', 'freeze'])
      .optional()
      .describe('drain (default) lets running nodes finish, freeze stops them where they stand.'),
    note: words().optional(),
  },
  'an object with mode and note',
  { orNothing: true },
);
/** The body of a pause. */
export type PauseRequest = ReturnType<typeof validatePauseRequest>;

/** Checks the body of a pause of a pool's queue, or of its end. */
export const validateQueuePause = shape({ note: words().optional() }, 'an object with note, or nothing', {
  orNothing: true,
});

export const validateRemoveRequest = shape(
  {
    /** Only attempts whose labels meet the selector; absent: every waiting attempt. */
    selector: z
      .custom<string>(() => true)
      .meta({ type: 'string', description: 'Only attempts whose labels meet it, such as team=data.' })
      .optional(),
    note: words(),
  },
  'an object with selector and note',
  {
    orNothing: true,
    more: ({ selector }, problems) => {
      if (selector !== undefined) checkSelector(selector, ['selector'], problems);
    },
  },
);
/** The body of a removal from a pool's queue. */
export type RemoveRequest = ReturnType<typeof validateRemoveRequest>;

const byRule = says('fleet, pool, or label. and the key of a label, such as label.tenant');
const limitFields = {
  by: z.string(byRule).regex(/^(fleet|pool|label\.[A-Za-z0-9_][A-Za-z0-9_./-]{0,255})$/, byRule),
  running: wholeNumber(1, 1_000_000).optional(),
  perMinute: wholeNumber(1, 10_000).optional(),
};
const limit = z
  .strictObject(limitFields, says('an object with by, and running or perMinute'))
  .refine(({ running, perMinute }) => running !== undefined || perMinute !== undefined, {
    error: 'must have running, perMinute or both; it has neither.',
  });
export const validateLimitsRequest = shape(
  {
    limits: z.array(limit, says('a list of limits')).max(MAX_LIMITS, says(`at most ${MAX_LIMITS} limits`)),
    note: words().optional(),
  },
  'an object with limits and note',
  {
    inner: Object.keys(limitFields),
    more: ({ limits }, problems) => {
      if (Array.isArray(limits)) checkOnce(limits.slice(0, MAX_LIMITS) as unknown[], problems);
    },
  },
);
/** The body of a change of the fleet's limits: it replaces all limits. */
export type LimitsRequest = ReturnType<typeof validateLimitsRequest>;

export const validateRetryRequest = shape(
  {
    /** Although a lost attempt was never seen dead, so that it may run beside its successor. */
    force: flag().optional().describe('Also while a lost attempt was never seen dead: it may run twice.'),
    /** A budget that replaces the present one, in US dollars: more than the execution has spent. */
    maxCostUsd: usd().optional().describe('A budget in place of the present one, in US dollars.'),
    /** The same in tokens of language models. */
    maxTokens: tokens().optional().describe('The same in tokens of language models.'),
  },
  'an object with force, maxCostUsd and maxTokens, or nothing',
  { orNothing: true },
);
/** The body of a retry of an ended execution. */
export type RetryRequest = ReturnType<typeof validateRetryRequest>;

/** For each type of scope: the field that names its target, and a check of its value. A selector has faults of its own. */
const SCOPES = {
  all: undefined,
  pool: {
    field: 'pool',
    pattern: NAME_PATTERN,
    rule: 'the name of a pool, 1 to 64 of the characters A-Z a-z 0-9 _ . -',
  },
  selector: {
    field: 'selector',
    rule: 'conditions on labels such as team=data,env!=prod,model in (a,b)',
  },
  worker: idOf('worker', 'workerId', 'wrk_'),
  execution: idOf('execution', 'executionId', 'exe_'),
  agent: idOf('agent', 'agentId', 'agt_'),
} as const;
type ScopeType = keyof typeof SCOPES;

function idOf<F extends string>(type: 'worker' | 'execution' | 'agent', field: F, like: string) {
  return { field, pattern: ID_PATTERNS[type], rule: `the id of the ${type}, ${like} and what follows it` };
}

/** The schema of a scope, made from the same table, for the OpenAPI document. `checkScope` checks it, and says more. */
export function scopeSchema(): z.ZodType {
  const kinds = Object.entries(SCOPES).map(([type, target]) => {
    if (target === undefined) return z.strictObject({ type: z.literal(type) });
    const text = z.string().describe(target.rule);
    const name = 'pattern' in target ? text.regex(target.pattern).describe(target.rule) : text;
    return z.strictObject({ type: z.literal(type), [target.field]: name });
  });
  return z.union([
    ...kinds,
    z.strictObject({ type: z.literal('job'), ...Object.fromEntries(JOB_FIELDS.map((f) => [f, line()])) }),
  ]);
}

/** Two fields name a job. */
const JOB_FIELDS = ['queue', 'jobId'] as const;

/** Two bounds for one name: only the lower one would have an effect. */
function checkOnce(limits: readonly unknown[], problems: ProblemList): void {
  const seen = new Map<string, number>();
  for (const [i, limit] of limits.entries()) {
    if (!isPlainObject(limit) || typeof limit['by'] !== 'string') continue;
    for (const field of ['running', 'perMinute']) {
      if (limit[field] === undefined) continue;
      const bound = `${field} by ${limit['by']}`;
      const first = seen.get(bound);
      if (first === undefined) seen.set(bound, i);
      else
        problems.add(
          ['limits', i, field],
          'DUPLICATE_LIMIT',
          () =>
            `limits[${first}] has a bound ${showValue(field)} by ${showValue(limit['by'])} already; set it once.`,
        );
    }
  }
}

/** A pool's name from a path. @throws BelayError `INVALID_REQUEST` */
export function requirePool(pool: string): string {
  const { pattern, rule } = SCOPES.pool;
  if (pattern.test(pool)) return pool;
  throw invalidRequest([
    { path: 'pool', code: 'PATTERN', message: `must be ${rule}; it is ${showValue(pool)}.` },
  ]);
}

function withPlainScope<T extends { readonly scope: Scope }>(request: T): T {
  return { ...request, scope: plainScope(request.scope) };
}

function checkKind({ kind, scope, latch, releaseNeeds: needs }: KillRequest, problems: ProblemList): void {
  const isJob = (scope as Scope | JobScope).type === 'job';
  const engages = (kind ?? 'kill') === 'kill' && (latch ?? (!isJob && isWide(scope)));
  if (needs !== undefined && !engages)
    problems.add(['releaseNeeds'], 'ONE_OF', 'must be left out, except for a kill that engages a latch.');
  if (kind === 'thaw' && scope.type !== 'agent') {
    const way =
      scope.type === 'execution'
        ? `POST /api/executions/${scope.executionId}/resume`
        : 'POST /api/latches/:id/release of the latch that froze it (GET /api/latches)';
    problems.add(['kind'], 'ONE_OF', `must not be thaw for a scope of type ${scope.type}; use ${way}.`);
  }
  if (kind === 'freeze' && isWide(scope) && latch === false)
    problems.add(
      ['latch'],
      'ONE_OF',
      'must not be false with kind freeze: new agents in the scope would run.',
    );
  if (kind === 'freeze' && scope.type === 'execution')
    problems.add(
      ['kind'],
      'ONE_OF',
      `must not be freeze for one execution; use POST /api/executions/${scope.executionId}/pause with mode freeze.`,
    );
}

function checkScope(raw: Record<string, unknown>, problems: ProblemList): void {
  const scope = raw['scope'];
  const known = `one of ${[...Object.keys(SCOPES), 'job'].join(', ')}`;
  if (scope === undefined || (isPlainObject(scope) && Object.keys(scope).length === 0)) {
    const message = `is missing; it must be ${known}. To kill everything write {"type":"all"}.`;
    problems.add(['scope'], 'REQUIRED', message);
    return;
  }
  if (!isPlainObject(scope)) {
    problems.add(['scope'], 'TYPE', `must be an object with a type: ${known}; it is ${showValue(scope)}.`);
    return;
  }
  const type = scope['type'];
  if (type === 'job') return checkJob(scope, problems);
  if (typeof type !== 'string' || !Object.hasOwn(SCOPES, type)) {
    problems.add(['scope', 'type'], 'ONE_OF', `must be ${known}; it is ${showValue(type)}.`);
    return;
  }
  checkTarget(scope, type as ScopeType, problems);
}

function checkJob(scope: Record<string, unknown>, problems: ProblemList): void {
  for (const field of JOB_FIELDS) {
    const parsed = line().safeParse(scope[field]);
    if (!parsed.success)
      problems.add(
        ['scope', field],
        scope[field] === undefined ? 'REQUIRED' : 'PATTERN',
        parsed.error.issues[0]!.message,
      );
  }
  for (const key of Object.keys(scope))
    if (key !== 'type' && !JOB_FIELDS.includes(key as 'queue'))
      problems.add(
        ['scope', key],
        'UNKNOWN_FIELD',
        'unknown field; a scope of type job has type, queue and jobId.',
      );
}

function checkTarget(scope: Record<string, unknown>, type: ScopeType, problems: ProblemList): void {
  const target = SCOPES[type];
  const path: Path = ['scope'];
  if (target !== undefined) {
    const id = scope[target.field];
    const { rule } = target;
    if (id === undefined)
      problems.add([...path, target.field], 'REQUIRED', `is missing; it must be ${rule}.`);
    else if (!('pattern' in target)) checkSelector(id, [...path, target.field], problems);
    else if (typeof id !== 'string' || !target.pattern.test(id))
      problems.add([...path, target.field], 'PATTERN', `must be ${rule}; it is ${showValue(id)}.`);
  }
  for (const key of Object.keys(scope)) {
    if (key === 'type' || key === target?.field || scope[key] === undefined) continue;
    const right = target === undefined ? 'type alone' : `type and ${target.field}`;
    problems.add([...path, key], 'UNKNOWN_FIELD', `unknown field; a scope of type ${type} has ${right}.`);
  }
}

function checkSelector(text: unknown, path: Path, problems: ProblemList): void {
  if (typeof text !== 'string')
    problems.add(path, 'PATTERN', `must be ${SCOPES.selector.rule}; it is ${showValue(text)}.`);
  else for (const { code, message } of parseSelector(text).problems ?? []) problems.add(path, code, message);
}
