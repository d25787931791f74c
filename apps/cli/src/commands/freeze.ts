import type { Command } from 'commander';
import type { KillRequest } from '#libs/client';
import { isWide, type Latch, type Receipt, type Scope } from '#libs/contracts';
import { kindOf, resolveExecutionId } from '../arguments/resolve-id';
import { addScopeOptions, readScope, type ScopeOptions } from '../arguments/scope-options';
import { exitCodeOfWarning, UsageError, type ExitCode } from '../exit-codes';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { renderPlan } from './kill-plan';
import { noteWarning } from './note-warning';
import { pauseAndShow, resumeAndShow } from './pause';
import { leftOrder, placeAndProve } from './place-order';
import { proveAndShow } from './prove-and-show';
import { findLatch, releaseAndShow } from './release';
import type { ProofWait } from './wait-for-proof';

/** Without an orchestrator nothing can be frozen, but everything can be ended. */
const LOCAL = 'belay kill --local';

interface FreezeOptions extends ScopeOptions {
  readonly note?: string;
  readonly dryRun?: boolean;
  readonly full?: boolean;
}

interface ThawOptions {
  readonly note?: string;
  readonly full?: boolean;
}

/** The commands `freeze` and `thaw`, which ends a freeze. */
export function addFreeze(program: Command, bind: Bind): void {
  addScopeOptions(program.command('freeze'))
    .description(
      'stop the agents of a scope where they stand and let nothing start there, until it is thawed',
    )
    .option('--note <text>', 'why; `belay latches` shows it')
    .option('--dry-run', 'only show who would be hit')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, options: FreezeOptions) => {
        const scope = await readScope(session, options);
        if (options.dryRun === true) return await showPlan(session, scope);
        return await freezeAndShow(session, scope, options);
      }),
    );
  program
    .command('thaw')
    .description('end a freeze: its processes run again')
    .argument('<id>', 'freeze (or its order), execution or agent id')
    .option('--note <text>', 'a sentence for the record; for a freeze "thawed" unless given')
    .option('--full', 'every target of a large receipt')
    .action(bind(async (session, id: string, options: ThawOptions) => await thaw(session, id, options)));
}

async function showPlan(session: Session, scope: Scope): Promise<ExitCode> {
  const plan = await session.client.planKill({ kind: 'freeze', scope });
  if (session.isJson) {
    session.json({ ...plan, latch: isWide(scope) });
    return exitCodeOfWarning(plan);
  }
  const latch = isWide(scope)
    ? `a freeze would be engaged over ${describeScope(scope)}: nothing would start in it until it is thawed`
    : 'nothing else would be kept from starting';
  const act = { doing: 'freezing', executions: 'pause', done: 'nothing was frozen', latch };
  for (const line of renderPlan(plan, scope, act)) session.print(line);
  noteWarning(session, plan);
  return exitCodeOfWarning(plan);
}

/** An execution is frozen by a pause in its record; any other scope by an order. */
async function freezeAndShow(session: Session, scope: Scope, options: FreezeOptions): Promise<ExitCode> {
  const { note, full } = options;
  const said = note === undefined ? {} : { note };
  const shown = full === undefined ? {} : { full };
  if (scope.type === 'execution')
    return await pauseAndShow(session, scope.executionId, { mode: 'freeze', ...said, ...shown });
  return await orderAndShow(session, { kind: 'freeze', scope, ...said }, shown);
}

async function thaw(session: Session, id: string, options: ThawOptions): Promise<ExitCode> {
  const { note } = options;
  const kind = kindOf(id);
  if (kind === 'agent') {
    const said = note === undefined ? {} : { note };
    return await orderAndShow(
      session,
      { kind: 'thaw', scope: { type: 'agent', agentId: id }, ...said },
      options,
    );
  }
  if (kind === 'latch' || kind === 'order') {
    const latch = await session.client.latch(await findLatch(session, id));
    requireFreeze(latch);
    return await releaseAndShow(session, latch.id, note ?? 'thawed', options);
  }
  if (kind === 'worker')
    throw new UsageError('A worker is thawed by the id of its freeze. List them with: belay latches');
  if (note !== undefined) throw new UsageError('--note is for a freeze or an agent; a resume takes none.');
  return await resumeAndShow(session, await resolveExecutionId(session.client, id), options);
}

/** `thaw` must not release a latch: the release of a latch needs a reason. */
function requireFreeze({ id, kind }: Latch): void {
  if (kind === 'freeze') return;
  throw new UsageError(`${id} is a ${kind}, not a freeze. Release it with: belay release ${id} --note "why"`);
}

async function orderAndShow(
  session: Session,
  request: KillRequest,
  options: { readonly full?: boolean },
): Promise<ExitCode> {
  const { kind, scope } = request;
  const isFreeze = kind === 'freeze';
  const agentId = isFreeze && scope.type === 'agent' ? scope.agentId : undefined;
  const act = {
    what: `${isFreeze ? 'freezing' : 'thawing'} ${describeScope(scope)}`,
    ask: async (wait: ProofWait) => await placeAndProve(session.client, request, wait),
    receiptOf: (receipt: Receipt) => receipt,
    hints: () => (agentId === undefined ? [] : [`Thaw it: belay thaw ${agentId}`]),
    whenLeft: leftOrder(LOCAL),
  };
  return await proveAndShow(session, act, { ...options, local: LOCAL });
}
