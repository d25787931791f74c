import { hostname, userInfo } from 'node:os';
import { BelayError, isWide, validateLocalKill, type LocalKillRequest, type Scope } from '#libs/contracts';
import { readLocalScope } from '../arguments/scope-options';
import { EXIT, exitCodeOfReceipt, UsageError, type ExitCode } from '../exit-codes';
import { killLocally, workersInScope } from '../local/kill-locally';
import { findLocalAgents } from '../local/local-agents';
import { findLocalWorkers, livingWorkers, type LocalWorker } from '../local/local-workers';
import { renderLocalKill } from '../local/render-local-kill';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import { count } from '../text/format';
import { isConfirmed } from './kill-confirm';
import type { KillOptions } from './kill-options';
import { renderPlan, sizeOfPlan } from './kill-plan';
import { noteWarning } from './note-warning';
import { waitForProof } from './wait-for-proof';

const ONLY_SEEN =
  'This list comes from /proc. It misses a process that cleared its environment; that one is killed with its agent.';

/**
 * Kills over the sockets in the data dir, through the workers of this machine alone (docs/killswitch.md#without-the-server).
 */
export async function killLocal(session: Session, options: KillOptions): Promise<ExitCode | void> {
  const request = toRequest(options);
  const { scope } = request;
  const workers = await requireWorkers(session, scope);
  if (options.dryRun === true) return showPlan(session, workers, scope);
  const isMeant = options.yes === true || (await isConfirmed(session, toQuestion(workers, scope)));
  if (!isMeant) {
    session.note('Nothing was killed.');
    return EXIT.interrupted;
  }
  return await killAndShow(session, workers, request, options);
}

function toRequest(options: KillOptions): LocalKillRequest {
  if (!options.wait)
    throw new UsageError('--no-wait is not for --local: no stored order goes on without this command.');
  if (!options.latch)
    throw new UsageError(
      '--no-latch is not for --local: a worker that is emptied takes no work until it has a latch.',
    );
  const { now, grace, note } = options;
  const request: LocalKillRequest = {
    scope: readLocalScope(options),
    mode: now === true ? 'immediate' : 'graceful',
    by: `${userName()}@${hostname()}`,
    ...(grace === undefined ? {} : { graceMs: grace }),
    ...(note === undefined ? {} : { note }),
  };
  try {
    return validateLocalKill(request);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** The user's id, where the system has no name for it. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}

/** The workers to ask. No worker is an error: a kill that asked nobody must not look complete. */
async function requireWorkers(session: Session, scope: Scope): Promise<LocalWorker[]> {
  const { path } = session.dataDir;
  const all = findLocalWorkers(path);
  if (workersInScope(all, scope).length > 0) return workersInScope(await livingWorkers(all), scope);
  throw new BelayError(
    'NOT_FOUND',
    all.length === 0 || scope.type !== 'worker'
      ? `No worker keeps files in ${path}. Give its data dir with --data-dir, and type this as its user.`
      : `Worker ${scope.workerId} keeps no files in ${path}. There are: ${all.map(({ id }) => id).join(', ')}`,
  );
}

/** Whether the workers take no work afterwards. They engage latches of their own once the server is back. */
function isHeld(scope: Scope): boolean {
  return scope.type === 'all' || scope.type === 'worker';
}

/** Whether only the worker knows which of its agents are in scope. */
function isKnownToWorkers(scope: Scope): boolean {
  return isWide(scope) && !isHeld(scope);
}

function seenIn(workers: readonly LocalWorker[], scope: Scope): ReturnType<typeof findLocalAgents> {
  return findLocalAgents(
    workers.map(({ id }) => id),
    scope,
  );
}

function showPlan(session: Session, workers: readonly LocalWorker[], scope: Scope): void {
  const targets = seenIn(workers, scope);
  const held = isHeld(scope);
  if (session.isJson)
    return session.json({ workers: workers.map(({ id }) => id), targets, executions: [], latch: held });
  const latch = held
    ? `${count(workers.length, 'worker')} would take no work, and engage latches once the server is back`
    : 'no latch would be engaged: new agents could start';
  const act = { doing: 'killing', executions: 'stop', done: 'nothing was killed', latch };
  for (const line of renderPlan({ targets, executions: [] }, scope, act)) session.print(line);
  if (isKnownToWorkers(scope))
    session.note(`These at most: only their workers know which of them are in ${describeScope(scope)}.`);
  session.note(ONLY_SEEN);
}

function toQuestion(workers: readonly LocalWorker[], scope: Scope): Parameters<typeof isConfirmed>[1] {
  return {
    scope,
    whose: 'of this machine',
    weigh: async () => {
      const size = sizeOfPlan({ targets: seenIn(workers, scope), executions: [] });
      const seen = `${size} seen on ${count(workers.length, 'worker')} of this machine`;
      // More agents may run than are seen here, so the count is never certain to be one.
      return {
        what: isKnownToWorkers(scope) ? `the agents in ${describeScope(scope)}, of ${seen}` : seen,
        isOne: false,
      };
    },
    latch: isHeld(scope) ? ', and nothing starts there until the latches are released' : '',
  };
}

async function killAndShow(
  session: Session,
  workers: readonly LocalWorker[],
  request: LocalKillRequest,
  options: KillOptions,
): Promise<ExitCode> {
  const what = `killing ${describeScope(request.scope)} on this machine`;
  const waited = await waitForProof(
    session,
    what,
    async ({ signal }) => await killLocally(workers, request, { signal }),
    { bound: 'at most as long as the graces of the agents; a worker that hangs is given up after 5 s' },
  );
  if ('unanswered' in waited) return EXIT.unconfirmed;
  if ('interrupted' in waited) {
    session.note(
      'The workers that were asked go on with the kill. Type it again to see the agents that remain.',
    );
    return EXIT.interrupted;
  }
  const { answer: kill } = waited;
  if (session.isJson) session.json(kill);
  else for (const line of renderLocalKill(kill, session.out, options)) session.print(line);
  noteWarning(session, kill);
  return exitCodeOfReceipt(kill);
}
