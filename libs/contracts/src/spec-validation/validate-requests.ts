import { z } from 'zod';
import { BelayError, type Problem } from '../errors';
import { isAgentId, isExecutionId, isWorkerId } from '../ids';
import { type Scope, type StopMode } from '../orders';
import { STOP_REASONS, type StopReason } from '../records';
import { SPEC_LIMITS } from '../spec';
import { checkJson, isPlainObject } from './check-json';
import { line, milliseconds, oneOf, says } from './fields';
import { type Path, ProblemList } from './problem-list';
import { reportIssues } from './report-issues';
import { showValue } from './show-value';
import { NameSuggester } from './suggest-name';

/** What a stop may say; every field may be left out. */
export interface StopRequest {
  readonly reason?: StopReason;
  /** A person's words. */
  readonly note?: string;
  readonly mode?: StopMode;
  /** Milliseconds; absent: each node's own. */
  readonly graceMs?: number;
}

/** What the killswitch takes: whom, and what a stop may say. */
export interface KillRequest extends StopRequest {
  readonly scope: Scope;
}

const stopFields = {
  reason: oneOf(STOP_REASONS).optional(),
  note: line(1_024).optional(),
  mode: oneOf(['graceful', 'immediate']).optional(),
  graceMs: milliseconds(0, SPEC_LIMITS.maxGraceMs).optional(),
};
const stopSchema = z.strictObject(stopFields, says('an object with reason, note, mode and graceMs'));
const killSchema = z.strictObject(
  { scope: z.unknown().optional(), ...stopFields },
  says('an object with scope, reason, note, mode and graceMs'),
);

/** For each type of scope: the field that names its target, and whether a value is such an id. */
const SCOPES = {
  all: undefined,
  worker: { field: 'workerId', isId: isWorkerId, like: 'wrk_' },
  execution: { field: 'executionId', isId: isExecutionId, like: 'exe_' },
  agent: { field: 'agentId', isId: isAgentId, like: 'agt_' },
} as const;
type ScopeType = keyof typeof SCOPES;

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
  return check(killSchema, raw, ['scope', ...Object.keys(stopFields)], checkScope) as KillRequest;
}

function check(
  schema: z.ZodType,
  raw: unknown,
  fields: readonly string[],
  more?: (raw: Record<string, unknown>, problems: ProblemList) => void,
): unknown {
  const problems = new ProblemList();
  checkJson(raw, problems);
  const parsed = schema.safeParse(raw);
  if (!parsed.success)
    reportIssues(parsed.error.issues, raw, [], problems, new NameSuggester(), () => fields);
  if (isPlainObject(raw)) more?.(raw, problems);
  if (!parsed.success || problems.count > 0) throw invalidRequest(problems.toArray());
  return Object.fromEntries(Object.entries(parsed.data as object).filter(([, value]) => value !== undefined));
}

function checkScope(raw: Record<string, unknown>, problems: ProblemList): void {
  const scope = raw['scope'];
  const known = `one of ${Object.keys(SCOPES).join(', ')}`;
  if (scope === undefined || (isPlainObject(scope) && Object.keys(scope).length === 0)) {
    const message = `is missing; say whom: ${known}. To kill everything write {"type":"all"}: it must be all on purpose.`;
    problems.add(['scope'], 'REQUIRED', message);
    return;
  }
  if (!isPlainObject(scope)) {
    problems.add(['scope'], 'TYPE', `must be an object with a type: ${known}; it is ${showValue(scope)}.`);
    return;
  }
  const type = scope['type'];
  if (typeof type !== 'string' || !Object.hasOwn(SCOPES, type)) {
    problems.add(['scope', 'type'], 'ONE_OF', `must be ${known}; it is ${showValue(type)}.`);
    return;
  }
  checkTarget(scope, type as ScopeType, problems);
}

function checkTarget(scope: Record<string, unknown>, type: ScopeType, problems: ProblemList): void {
  const target = SCOPES[type];
  const path: Path = ['scope'];
  if (target !== undefined) {
    const id = scope[target.field];
    const rule = `the id of the ${type}, ${target.like} and what follows it`;
    if (id === undefined)
      problems.add([...path, target.field], 'REQUIRED', `is missing; it must be ${rule}.`);
    else if (typeof id !== 'string' || !target.isId(id))
      problems.add([...path, target.field], 'PATTERN', `must be ${rule}; it is ${showValue(id)}.`);
  }
  for (const key of Object.keys(scope)) {
    if (key === 'type' || key === target?.field || scope[key] === undefined) continue;
    const right = target === undefined ? 'type alone' : `type and ${target.field}`;
    problems.add([...path, key], 'UNKNOWN_FIELD', `unknown field; a scope of type ${type} has ${right}.`);
  }
}

function invalidRequest(problems: readonly Problem[]): BelayError {
  const head = problems[0]!;
  const where = head.path === '' ? '' : `${head.path}: `;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  return new BelayError('INVALID_REQUEST', `The request is not valid: ${where}${head.message}${more}`, {
    problems,
  });
}
