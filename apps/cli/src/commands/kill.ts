import { Option, type Command } from 'commander';
import type { KillPlan, KillRequest } from '#libs/client';
import { isWide, type Receipt, type Scope } from '#libs/contracts';
import { parseGrace } from '../arguments/parse-duration';
import { addScopeOptions, localKillOf, readScope } from '../arguments/scope-options';
import { EXIT, exitCodeOfWarning, UsageError, type ExitCode } from '../exit-codes';
import { describeConsequences } from '../receipt/describe-consequences';
import { describeLatch } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { isConfirmed } from './kill-confirm';
import { killLocal } from './kill-local';
import type { KillOptions } from './kill-options';
import { renderPlan, sizeOfPlan } from './kill-plan';
import { noteWarning } from './note-warning';
import { leftOrder, placeAndProve } from './place-order';
import { proveAndShow } from './prove-and-show';
import { releaseNeedsOption } from './release-needs';
import { toStopRequest } from './stop';
import { tellSilence } from './tell-silence';
import type { ProofWait } from './wait-for-proof';
import { withWayOut } from './way-out';

export function addKill(program: Command, bind: Bind): void {
  addScopeOptions(program.command('kill'))
    .description('the killswitch: end every agent in a scope, let nothing start there, show the receipt')
    .option('--local', 'ask the workers of this machine, and neither the orchestrator nor its server')
    .option('--no-latch', 'engage no latch: new agents may start in the scope')
    .addOption(releaseNeedsOption().conflicts('local'))
    .option('--dry-run', 'only show who would be hit')
    .option('--now', 'SIGKILL at once, without the stop signal and its grace')
    .addOption(
      new Option('--grace <duration>', "between stop signal and SIGKILL, such as 2s; else each node's own")
        .argParser(parseGrace)
        .conflicts('now'),
    )
    .option('--note <text>', 'a sentence for the record')
    .option('--yes', 'do not ask')
    .option('--no-wait', 'return when the order is durable')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, options: KillOptions) => {
        if (options.local === true) return await killLocal(session, options);
        return await killOverServer(session, options).catch((error: unknown) => {
          throw withWayOut(error, localKillOf(options));
        });
      }),
    );
}

async function killOverServer(session: Session, options: KillOptions): Promise<ExitCode> {
  const heard = tellSilence(session, localKillOf(options));
  const request = await toRequest(session, options).finally(heard);
  if (options.dryRun === true) return await showPlan(session, request);
  if (options.yes !== true && !(await isConfirmed(session, toQuestion(session, request)))) {
    session.note('Nothing was killed.');
    return EXIT.interrupted;
  }
  return options.wait
    ? await killAndShow(session, request, options)
    : await killOnly(session, request, localKillOf(options));
}

async function toRequest(session: Session, options: KillOptions): Promise<KillRequest> {
  const scope = await readScope(session, options);
  // A job ends with its kill, so a latch would have no effect.
  const isLatching = options.latch && options.job === undefined;
  const { releaseNeeds } = options;
  if (releaseNeeds !== undefined && !(isLatching && isWide(scope)))
    throw new UsageError('--release-needs is for a kill that engages a latch.');
  return {
    scope,
    ...toStopRequest(options),
    ...(isLatching ? {} : { latch: false }),
    ...(releaseNeeds === undefined ? {} : { releaseNeeds }),
  };
}

/**
 * The server's default when the request names no latch: an execution or an agent gets none, since an ended one starts nothing.
 */
function isLatched({ scope, latch }: KillRequest): boolean {
  return latch !== false && isWide(scope);
}

async function showPlan(session: Session, request: KillRequest): Promise<ExitCode> {
  const { scope } = request;
  const plan = await session.client.planKill(request);
  const latched = isLatched(request);
  if (session.isJson) {
    session.json({ ...plan, latch: latched });
    return exitCodeOfWarning(plan);
  }
  const latch = latched
    ? `a latch would be engaged over ${describeScope(scope)}: nothing would start in it until it is released`
    : `no latch would be engaged${isWide(scope) ? ': new agents could start' : ''}`;
  const act = { doing: 'killing', executions: 'stop', done: 'nothing was killed', latch };
  const consequences = await describeConsequences(session.client, plan.targets, plan.executions);
  for (const line of renderPlan(plan, scope, { ...act, consequences })) session.print(line);
  noteWarning(session, plan);
  return exitCodeOfWarning(plan);
}

function toQuestion(session: Session, request: KillRequest): Parameters<typeof isConfirmed>[1] {
  const { scope } = request;
  const where = scope.type === 'all' ? '' : ` in ${describeScope(scope)}`;
  return {
    scope,
    whose: 'of the fleet',
    weigh: async () => {
      const plan = await session.client.planKill(request);
      return { what: sizeOfPlan(plan) + where, isOne: isOne(plan) };
    },
    latch: isLatched(request) ? ', and nothing starts there until the latch is released' : '',
  };
}

function isOne({ targets, executions }: KillPlan): boolean {
  return targets.length <= 1 && executions.length <= 1;
}

async function killOnly(session: Session, request: KillRequest, local: string): Promise<ExitCode> {
  const heard = tellSilence(session, local);
  const receipt = await session.client.killWithoutWaiting(request).finally(heard);
  const { orderId, latch } = receipt;
  if (session.isJson) session.json(receipt);
  session.print(`order ${orderId} is durable. Its evidence: belay receipt ${orderId}`);
  for (const line of latch === undefined ? [] : describeLatch(latch)) session.print(line);
  noteWarning(session, receipt);
  return exitCodeOfWarning(receipt);
}

/** An execution that was killed as a whole has no consequence but its own end. */
async function consequencesOf(session: Session, scope: Scope, receipt: Receipt): Promise<string[]> {
  if (scope.type === 'execution' || scope.type === 'all') return [];
  return await describeConsequences(session.client, receipt.targets, receipt.executions);
}

async function killAndShow(session: Session, request: KillRequest, options: KillOptions): Promise<ExitCode> {
  const local = localKillOf(options);
  const act = {
    what: `killing ${describeScope(request.scope)}`,
    ask: async (wait: ProofWait) => await placeAndProve(session.client, request, wait),
    receiptOf: (receipt: Receipt) => receipt,
    after: async (receipt: Receipt) => await consequencesOf(session, request.scope, receipt),
    whenLeft: leftOrder(local),
  };
  return await proveAndShow(session, act, { ...options, local });
}
