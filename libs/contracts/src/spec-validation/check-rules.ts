import { DEFAULT_BACKOFF } from '../spec';
import { isPlainObject, isSpecialName } from './check-json';
import { type Path, type ProblemList } from './problem-list';
import { COMMAND_RULE } from './spec-schema';

/** Prefix of the environment names that Belay sets itself. */
const RESERVED_PREFIX = 'BELAY_';

const NAMED_BY = ['id', 'pool'] as const;

/** The rules between the fields of one node. It reads the node as submitted, so it checks types first. */
export function checkNodeRules(node: unknown, path: Path, problems: ProblemList): void {
  if (!isPlainObject(node)) return;
  for (const field of NAMED_BY) {
    const value = node[field];
    if (typeof value === 'string' && isSpecialName(value))
      problems.add(
        [...path, field],
        'UNSAFE_KEY',
        `${value} is a name that is never accepted; choose another.`,
      );
  }
  if (isPlainObject(node['run'])) checkRun(node['run'], [...path, 'run'], problems);
  if (isPlainObject(node['backoff'])) checkBackoff(node['backoff'], [...path, 'backoff'], problems);
}

/** Fields of `run` that have no meaning for a handler. */
const FOR_COMMANDS = ['command', 'env', 'cwd', 'shell'] as const;

function checkRun(run: Record<string, unknown>, path: Path, problems: ProblemList): void {
  const { command, env, shell, handler } = run;
  if (handler === undefined && command === undefined)
    problems.add([...path, 'command'], 'REQUIRED', `is missing; it must be ${COMMAND_RULE}.`);
  for (const field of handler === undefined ? [] : FOR_COMMANDS)
    if (run[field] !== undefined)
      problems.add(
        [...path, field],
        'HANDLER_RUN',
        'must not be given with handler, which its application runs; leave one of the two out.',
      );
  if (shell === true && Array.isArray(command) && command.length > 1) {
    problems.add(
      [...path, 'command'],
      'SHELL_COMMAND',
      `must be exactly one string with shell: true; it is a list of ${command.length}.`,
    );
  }
  if (!isPlainObject(env)) return;
  for (const name of Object.keys(env)) {
    if (name.startsWith(RESERVED_PREFIX))
      problems.add(
        [...path, 'env', name],
        'RESERVED_NAME',
        'names starting with BELAY_ are set by Belay; choose another.',
      );
  }
}

function checkBackoff(backoff: Record<string, unknown>, path: Path, problems: ProblemList): void {
  // A stored spec has its defaults written out, and must also be a valid spec.
  const { delayMs = DEFAULT_BACKOFF.delayMs, maxMs } = backoff;
  if (typeof delayMs === 'number' && typeof maxMs === 'number' && maxMs < delayMs)
    problems.add(
      [...path, 'maxMs'],
      'BACKOFF_ORDER',
      `must be at least delayMs (${delayMs}); it is ${maxMs}.`,
    );
}

/** The rules between the fields of an execution, without its nodes. */
export function checkBudgetRules(spec: Record<string, unknown>, problems: ProblemList): void {
  for (const [softName, hardName, code] of BUDGETS) {
    const [soft, hard] = [spec[softName], spec[hardName]];
    if (typeof hard === 'number' && typeof soft === 'number' && soft > hard)
      problems.add([softName], code, `must be at most ${hardName} (${hard}); it is ${soft}.`);
  }
}

const BUDGETS = [
  ['softCostUsd', 'maxCostUsd', 'COST_ORDER'],
  ['softTokens', 'maxTokens', 'TOKENS_ORDER'],
] as const;
