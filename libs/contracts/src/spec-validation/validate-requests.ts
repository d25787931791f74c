import { z } from 'zod';
import { isAgentId, isExecutionId, isWorkerId, ULID_PATTERN } from '../ids';
import { MAX_LIMITS, type LimitRule } from '../limits';
import { plainScope, type JobScope } from '../jobs';
import type { StopMode } from '../orders';
import { isWide, type Scope } from '../scope';
import { STOP_REASONS, type StopReason } from '../records';
import { parseSelector } from '../selector';
import { SPEC_LIMITS } from '../spec';
import { isPlainObject } from './check-json';
import { check, invalidRequest } from './check-request';
import { flag, line, milliseconds, NAME_PATTERN, oneOf, says, tokens, usd, wholeNumber } from './fields';
import type { Path, ProblemList } from './problem-list';
import { showValue } from './show-value';

/** The body of a stop; every field is optional. */
export interface StopRequest {
  readonly reason?: StopReason;
  /** A person's words. */
  readonly note?: string;
  readonly mode?: StopMode;
  /** Milliseconds; absent: each node's own. */
  readonly graceMs?: number;
}

/** The body of an order: its kind and scope, and the fields of a stop. */
export interface KillRequest extends StopRequest {
  /** Default `kill`. `thaw` is for one agent; a wider freeze ends with the release of its latch. */
  readonly kind?: 'kill' | 'freeze' | 'thaw';
  readonly scope: Scope;
  /** Whether a latch is engaged in the same act. Default: for all, pool, selector and worker. */
  readonly latch?: boolean;
}

/** The worker to drill; every running one when it is left out. */
export interface DrillRequest {
  readonly workerId?: string;
  /** An agent that attacks Belay, in place of trees that resist. */
  readonly hostile?: boolean;
}

/** The request that one worker takes on its local socket, with nobody else asked. */
export interface LocalKillRequest {
  readonly scope: Scope;
  readonly mode: StopMode;
  readonly graceMs?: number;
  readonly note?: string;
  /** The user at the machine. */
  readonly by: string;
}

/** The body of a latch on its own. */
export interface LatchRequest {
  readonly scope: Scope;
  readonly note?: string;
}

/** The body of a release, or of the closing of an order: neither is done without a reason. */
export interface NoteRequest {
  /** A person's words. */
  readonly note: string;
}

/** The body of a pause. */
export interface PauseRequest {
  /** `drain` (default) lets running nodes finish, `freeze` stops them where they stand. */
  readonly mode?: 'drain' | 'freeze';
  readonly note?: string;
}

/** The body of a removal from a pool's queue. */
export interface RemoveRequest {
  /** Only attempts whose labels meet it; absent: every one that waits. */
  readonly selector?: string;
  /** A person's words. */
  readonly note: string;
}

/** The body of a change of the fleet's limits: all of them, in place of those before. */
export interface LimitsRequest {
  readonly limits: readonly LimitRule[];
  /** A person's words. */
  readonly note?: string;
}

/** The body of a retry of an ended execution. */
export interface RetryRequest {
  /** Although an attempt that was lost was never seen dead: it may run beside its successor. */
  readonly force?: boolean;
  /** A budget in place of the one it had, in US dollars: more than it has spent. */
  readonly maxCostUsd?: number;
  /** The same in tokens of language models. */
  readonly maxTokens?: number;
}

const stopFields = {
  reason: oneOf(STOP_REASONS).optional(),
  note: line(1_024).optional(),
  mode: oneOf(['graceful', 'immediate']).optional(),
  graceMs: milliseconds(0, SPEC_LIMITS.maxGraceMs).optional(),
};
const stopSchema = z.strictObject(stopFields, says('an object with reason, note, mode and graceMs'));
const killFields = {
  kind: oneOf(['kill', 'freeze', 'thaw']).optional(),
  scope: z.unknown().optional(),
  latch: flag().optional(),
  ...stopFields,
};
const killSchema = z.strictObject(
  killFields,
  says('an object with scope, kind, latch, reason, note, mode and graceMs'),
);
const localFields = {
  scope: z.unknown().optional(),
  mode: oneOf(['graceful', 'immediate']),
  graceMs: milliseconds(0, SPEC_LIMITS.maxGraceMs).optional(),
  note: line(1_024).optional(),
  by: line(256),
};
const localSchema = z.strictObject(localFields, says('an object with scope, mode, graceMs, note and by'));
const WORKER_ID = new RegExp(`^wrk_${ULID_PATTERN}$`);
const workerRule = says('the id of a worker, wrk_ and what follows it');
const drillFields = {
  workerId: z.string(workerRule).regex(WORKER_ID, workerRule).optional(),
  hostile: z.boolean(says('true or false')).optional(),
};
const drillSchema = z.strictObject(
  drillFields,
  says('an object with workerId and hostile, or nothing for every worker'),
);
const latchFields = { scope: z.unknown().optional(), note: line(1_024).optional() };
const latchSchema = z.strictObject(latchFields, says('an object with scope and note'));
const noteFields = { note: line(1_024) };
const noteSchema = z.strictObject(noteFields, says('an object with note, the reason in your words'));
const pauseFields = { mode: oneOf(['drain', 'freeze']).optional(), note: line(1_024).optional() };
const pauseSchema = z.strictObject(pauseFields, says('an object with mode and note'));
const queuePauseFields = { note: line(1_024).optional() };
const queuePauseSchema = z.strictObject(queuePauseFields, says('an object with note, or nothing'));
const removeFields = { selector: z.unknown().optional(), note: line(1_024) };
const removeSchema = z.strictObject(removeFields, says('an object with selector and note'));

const byRule = says('fleet, pool, or label. and the key of a label, such as label.tenant');
const limitFields = {
  by: z.string(byRule).regex(/^(fleet|pool|label\.[A-Za-z0-9_][A-Za-z0-9_./-]{0,255})$/, byRule),
  running: wholeNumber(1, 1_000_000).optional(),
  perMinute: wholeNumber(1, 10_000).optional(),
};
const limitSchema = z
  .strictObject(limitFields, says('an object with by, and running or perMinute'))
  .refine(({ running, perMinute }) => running !== undefined || perMinute !== undefined, {
    error: 'must have running, perMinute or both; it has neither.',
  });
const limitsFields = {
  limits: z
    .array(limitSchema, says('a list of limits'))
    .max(MAX_LIMITS, says(`at most ${MAX_LIMITS} limits`)),
  note: line(1_024).optional(),
};
const limitsSchema = z.strictObject(limitsFields, says('an object with limits and note'));

const retryFields = {
  force: flag().optional(),
  maxCostUsd: usd().optional(),
  maxTokens: tokens().optional(),
};
const retrySchema = z.strictObject(
  retryFields,
  says('an object with force, maxCostUsd and maxTokens, or nothing'),
);

/** For each type of scope: the field that names its target, and whether a value is such a name; a selector has faults of its own. */
const SCOPES = {
  all: undefined,
  pool: {
    field: 'pool',
    isName: (pool: string) => NAME_PATTERN.test(pool),
    rule: 'the name of a pool, 1 to 64 of the characters A-Z a-z 0-9 _ . -',
  },
  selector: {
    field: 'selector',
    rule: 'conditions on labels such as team=data,env!=prod,model in (a,b)',
  },
  worker: idOf('worker', 'workerId', isWorkerId, 'wrk_'),
  execution: idOf('execution', 'executionId', isExecutionId, 'exe_'),
  agent: idOf('agent', 'agentId', isAgentId, 'agt_'),
} as const;
type ScopeType = keyof typeof SCOPES;

function idOf<F extends string>(type: string, field: F, isName: (id: string) => boolean, like: string) {
  return { field, isName, rule: `the id of the ${type}, ${like} and what follows it` };
}

/** A job is named by two fields. */
const JOB_FIELDS = ['queue', 'jobId'] as const;

/**
 * Checks the body of a stop. No body at all is a stop without words.
 *
 * @throws BelayError `INVALID_REQUEST` with every problem.
 */
export function validateStopRequest(raw: unknown): StopRequest {
  return check(stopSchema, raw ?? {}, Object.keys(stopFields)) as StopRequest;
}

/**
 * Checks the body of a kill. The scope is never guessed: all must be said.
 *
 * @throws BelayError `INVALID_REQUEST` with every problem.
 */
export function validateKillRequest(raw: unknown): KillRequest {
  const request = check(killSchema, raw, Object.keys(killFields), (body, problems) => {
    checkScope(body, problems);
    if (problems.count === 0) checkKind(body as unknown as KillRequest, problems);
  }) as KillRequest;
  const { kind = 'kill', scope: given } = request;
  const scope = plainScope(given);
  // A job ends with its kill, and its id is not used again: there is nothing to hold back.
  const isOne = !isWide(scope) || (kind === 'kill' && (given as Scope | JobScope).type === 'job');
  const { latch = kind !== 'thaw' && !isOne } = request;
  return { ...request, scope, kind, latch };
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateDrillRequest(raw: unknown): DrillRequest {
  return check(drillSchema, raw ?? {}, Object.keys(drillFields)) as DrillRequest;
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateLocalKill(raw: unknown): LocalKillRequest {
  return withPlainScope(check(localSchema, raw, Object.keys(localFields), checkScope) as LocalKillRequest);
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateLatchRequest(raw: unknown): LatchRequest {
  return withPlainScope(check(latchSchema, raw, Object.keys(latchFields), checkScope) as LatchRequest);
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateNoteRequest(raw: unknown): NoteRequest {
  return check(noteSchema, raw ?? {}, Object.keys(noteFields)) as NoteRequest;
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validatePauseRequest(raw: unknown): PauseRequest {
  return check(pauseSchema, raw ?? {}, Object.keys(pauseFields)) as PauseRequest;
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateQueuePause(raw: unknown): { readonly note?: string } {
  return check(queuePauseSchema, raw ?? {}, Object.keys(queuePauseFields)) as { readonly note?: string };
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateRemoveRequest(raw: unknown): RemoveRequest {
  return check(removeSchema, raw ?? {}, Object.keys(removeFields), ({ selector }, problems) => {
    if (selector !== undefined) checkSelector(selector, ['selector'], problems);
  }) as RemoveRequest;
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateLimitsRequest(raw: unknown): LimitsRequest {
  const known = [...Object.keys(limitsFields), ...Object.keys(limitFields)];
  return check(limitsSchema, raw, known, ({ limits }, problems) => {
    if (Array.isArray(limits)) checkOnce(limits.slice(0, MAX_LIMITS) as unknown[], problems);
  }) as LimitsRequest;
}

/** Two bounds for one thing: the lower one would hold, and the other would look as if it did. */
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
  const { isName, rule } = SCOPES.pool;
  if (isName(pool)) return pool;
  throw invalidRequest([
    { path: 'pool', code: 'PATTERN', message: `must be ${rule}; it is ${showValue(pool)}.` },
  ]);
}

/** @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateRetryRequest(raw: unknown): RetryRequest {
  return check(retrySchema, raw ?? {}, Object.keys(retryFields)) as RetryRequest;
}

function withPlainScope<T extends { readonly scope: Scope }>(request: T): T {
  return { ...request, scope: plainScope(request.scope) };
}

/** Checks that the kind goes with the scope. */
function checkKind({ kind, scope, latch }: KillRequest, problems: ProblemList): void {
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
    else if (!('isName' in target)) checkSelector(id, [...path, target.field], problems);
    else if (typeof id !== 'string' || !target.isName(id))
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
