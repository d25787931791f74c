import { Option, type Command } from 'commander';
import type { KillPlan, KillRequest } from '#libs/client';
import { isWide } from '#libs/contracts';
import { notePool } from '../arguments/note-pool';
import { parseGrace } from '../arguments/parse-duration';
import { addScopeOptions, readScope, type ScopeOptions } from '../arguments/scope-options';
import { EXIT, UsageError, type ExitCode } from '../exit-codes';
import { describeLatch } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { renderPlan, sizeOfPlan } from './kill-plan';
import { proveAndShow } from './prove-and-show';
import { toStopRequest } from './stop';

interface KillOptions extends ScopeOptions {
  readonly dryRun?: boolean;
  readonly now?: boolean;
  readonly grace?: number;
  readonly note?: string;
  readonly yes?: boolean;
  /** False with `--no-latch`. */
  readonly latch: boolean;
  /** False with `--no-wait`. */
  readonly wait: boolean;
  readonly full?: boolean;
}

/** What a person types before everything is killed; what is less takes a yes. */
const KILL_ALL = 'kill all';

export function addKill(program: Command, bind: Bind): void {
  addScopeOptions(program.command('kill'))
    .description('the killswitch: end everything in a scope, keep it from starting, show the receipt')
    .option('--no-latch', 'what starts next in the scope may run')
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
        const request = await toRequest(session, options);
        if (options.dryRun === true) return await showPlan(session, request);
        if (options.yes !== true && !(await isConfirmed(session, request))) {
          session.note('Nothing was killed.');
          return EXIT.interrupted;
        }
        const code = options.wait
          ? await killAndShow(session, request, options)
          : await killOnly(session, request);
        await notePool(session, request.scope);
        return code;
      }),
    );
}

async function toRequest(session: Session, options: KillOptions): Promise<KillRequest> {
  const scope = await readScope(session, options);
  return { scope, ...toStopRequest(options), ...(options.latch ? {} : { latch: false }) };
}

/** What the server does where nothing is said of a latch: an execution or an agent that ended starts nothing. */
function isLatched({ scope, latch }: KillRequest): boolean {
  return latch !== false && isWide(scope);
}

async function showPlan(session: Session, request: KillRequest): Promise<void> {
  const { scope } = request;
  const plan = await session.client.planKill(request);
  const latched = isLatched(request);
  if (session.isJson) return session.json({ ...plan, latch: latched });
  const latch = latched
    ? `a latch would be engaged over ${describeScope(scope)}: nothing would start in it until it is released`
    : `no latch would be engaged${isWide(scope) ? ': what starts next would run' : ''}`;
  const act = { doing: 'killing', executions: 'stop', done: 'nothing was killed', latch };
  for (const line of renderPlan(plan, scope, act)) session.print(line);
  await notePool(session, scope);
}

/**
 * Everything is asked about always. A narrower scope is asked about on a terminal when it hits more than one: a script
 * has said whom, a tired person may have said more than was meant.
 */
async function isConfirmed(session: Session, request: KillRequest): Promise<boolean> {
  const { scope } = request;
  if (!isWide(scope)) return true;
  const isAll = scope.type === 'all';
  if (!session.process.stdinIsTTY) {
    if (!isAll) return true;
    throw new UsageError(
      'belay kill --all ends every agent of the fleet. Without a terminal add --yes; to look first add --dry-run.',
    );
  }
  const plan = await session.client.planKill(request);
  if (!isAll && isOne(plan)) return true;
  const word = isAll ? KILL_ALL : 'yes';
  const where = isAll ? '' : ` in ${describeScope(scope)}`;
  const latch = isLatched(request) ? ', and nothing starts there until the latch is released' : '';
  const question = `This kills ${sizeOfPlan(plan)}${where}${latch}. Type "${word}" to go on: `;
  const answer = await session.process.ask(question);
  return answer?.trim() === word;
}

function isOne({ targets, executions }: KillPlan): boolean {
  return targets.length <= 1 && executions.length <= 1;
}

async function killOnly(session: Session, request: KillRequest): Promise<ExitCode> {
  const receipt = await session.client.killWithoutWaiting(request);
  const { orderId, latch } = receipt;
  if (session.isJson) session.json(receipt);
  session.print(`order ${orderId} is durable. Its evidence: belay receipt ${orderId}`);
  for (const line of latch === undefined ? [] : describeLatch(latch)) session.print(line);
  return EXIT.ok;
}

async function killAndShow(session: Session, request: KillRequest, options: KillOptions): Promise<ExitCode> {
  const act = {
    what: `killing ${describeScope(request.scope)}`,
    ask: async (signal: AbortSignal) => await session.client.kill(request, { signal }),
    receiptOf: (receipt: Awaited<ReturnType<typeof session.client.kill>>) => receipt,
    whenLeft: 'The order is durable and goes on. Look with: belay workers',
  };
  return await proveAndShow(session, act, options);
}
