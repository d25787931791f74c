import type { Command } from 'commander';
import {
  BelayError,
  isBelayError,
  isExecutionId,
  plainScope,
  validateLatchRequest,
  type Scope,
} from '#libs/contracts';
import { UsageError } from '../exit-codes';
import type { Session } from '../session/session';
import { requireId, resolveExecutionId } from './resolve-id';

/** The target of a command; exactly one option is given. */
export interface ScopeOptions {
  readonly all?: boolean;
  readonly pool?: string;
  readonly selector?: string;
  readonly worker?: string;
  readonly execution?: string;
  readonly agent?: string;
  /** A job of a killable processor, as QUEUE/ID. */
  readonly job?: string;
}

const SCOPES = ['all', 'pool', 'selector', 'worker', 'execution', 'agent', 'job'] as const;

/** The scope options, the same for every command that takes a scope. */
export function addScopeOptions(command: Command): Command {
  return command
    .option('--all', 'the whole fleet')
    .option('--pool <name>', 'one pool')
    .option('-l, --selector <labels>', "all that has these labels, such as 'team=data,env!=prod'")
    .option('--worker <id>', 'one worker')
    .option('--execution <id>', 'one execution')
    .option('--agent <id>', 'one agent')
    .option('--job <queue/id>', 'one job of a killable processor');
}

/** The one scope that was named. The server's own rules are applied here first, so that a mistake sends no request. */
export async function readScope(session: Session, options: ScopeOptions): Promise<Scope> {
  const { execution } = options;
  if (execution === undefined) return readLocalScope(options);
  // Checked first, since an abbreviation is looked up at the server.
  requireOne(options);
  return { type: 'execution', executionId: await resolveExecutionId(session.client, execution) };
}

/** The same without a request: an execution is named by its complete id. */
export function readLocalScope(options: ScopeOptions): Scope {
  requireOne(options);
  const { pool, selector, worker, execution, agent, job } = options;
  if (pool !== undefined) return checked({ type: 'pool', pool });
  if (selector !== undefined) return checkedSelector(selector);
  if (worker !== undefined) return { type: 'worker', workerId: requireId(worker, 'worker') };
  if (execution !== undefined) return { type: 'execution', executionId: requireId(execution, 'execution') };
  if (agent !== undefined) return { type: 'agent', agentId: requireId(agent, 'agent') };
  if (job !== undefined) return checkedJob(job);
  return { type: 'all' };
}

/** The command that kills the same scope through the workers of a machine alone, for when the server is away. */
export function localKillOf(options: ScopeOptions): string {
  const name = SCOPES.find((each) => options[each] !== undefined) ?? 'all';
  const { [name]: value } = options;
  if (typeof value !== 'string') return `belay kill --local --${name}`;
  // Only an orchestrator can look up an abbreviation: here the id must be complete.
  if (name === 'execution' && !isExecutionId(value)) return 'belay kill --local --execution WHOLE_ID';
  return `belay kill --local --${name} ${quoted(value)}`;
}

/** Quotes a text for a shell. */
function quoted(text: string): string {
  return /^[\w./:@+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function requireOne(options: ScopeOptions): void {
  const named = SCOPES.filter((name) => options[name] !== undefined);
  if (named.length !== 1)
    throw new UsageError(`Name exactly one scope: ${SCOPES.map((name) => `--${name}`).join(', ')}.`);
}

function checkedSelector(selector: string): Scope {
  // An unset variable in a script must not mean everything.
  if (selector.trim() === '')
    throw new UsageError('--selector is empty, which would cover everything. For that give --all.');
  return checked({ type: 'selector', selector });
}

/** The name of a queue has no slash; a job's id may have some. */
function checkedJob(job: string): Scope {
  const [, queue = '', jobId = ''] = /^([^/]*)\/(.*)$/.exec(job) ?? [];
  if (queue === '' || jobId === '')
    throw new UsageError('--job takes the queue and the id of the job, such as reports/42.');
  return checked(plainScope({ type: 'job', queue, jobId }));
}

function checked(scope: Scope): Scope {
  try {
    validateLatchRequest({ scope });
    return scope;
  } catch (error) {
    if (!isBelayError(error)) throw error;
    throw new UsageError(problemsOf(error, `--${scope.type}`));
  }
}

function problemsOf({ problems, message }: BelayError, flag: string): string {
  if (problems.length === 0) return message;
  return problems.map((problem) => `${flag} ${problem.message}`).join('\n  ');
}
