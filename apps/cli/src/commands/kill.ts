import { Option, type Command } from 'commander';
import type { KillPlan, KillRequest } from '#libs/client';
import type { Scope } from '#libs/contracts';
import { parseGrace } from '../arguments/parse-duration';
import { requireId, resolveExecutionId } from '../arguments/resolve-id';
import { EXIT, exitCodeOfReceipt, UsageError, type ExitCode } from '../exit-codes';
import { describeScope, renderReceipt } from '../receipt/render-receipt';
import type { Session } from '../session/session';
import { count } from '../text/format';
import type { Bind } from './action';
import { toStopRequest } from './stop';
import { waitForProof } from './wait-for-proof';

interface KillOptions {
  readonly all?: boolean;
  readonly worker?: string;
  readonly execution?: string;
  readonly agent?: string;
  readonly dryRun?: boolean;
  readonly now?: boolean;
  readonly grace?: number;
  readonly note?: string;
  readonly yes?: boolean;
  /** False with `--no-wait`. */
  readonly wait: boolean;
  readonly full?: boolean;
}

/** What a person types before everything is killed. */
const CONFIRMATION = 'kill all';
const PLAN_SHOWN = 50;

export function addKill(program: Command, bind: Bind): void {
  program
    .command('kill')
    .description('the killswitch: end everything in a scope and show the receipt')
    .option('--all', 'every agent of the fleet')
    .option('--worker <id>', 'every agent of one worker')
    .option('--execution <id>', 'every agent of one execution')
    .option('--agent <id>', 'one agent')
    .option('--dry-run', 'only show who would be hit')
    .option('--now', 'SIGKILL at once, without the stop signal and its grace')
    .addOption(
      new Option('--grace <duration>', "between stop signal and SIGKILL, such as 2s; else each node's own")
        .argParser(parseGrace)
        .conflicts('now'),
    )
    .option('--note <text>', 'a sentence for the record')
    .option('--yes', 'do not ask before --all')
    .option('--no-wait', 'return when the order is durable')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, options: KillOptions) => {
        const request = { scope: await toScope(session, options), ...toStopRequest(options) };
        if (options.dryRun === true) return await showPlan(session, request);
        if (options.all === true && options.yes !== true && !(await isConfirmed(session, request))) {
          session.note('Nothing was killed.');
          return EXIT.interrupted;
        }
        return await killAndShow(session, request, options);
      }),
    );
}

async function toScope(session: Session, options: KillOptions): Promise<Scope> {
  const { all, worker, execution, agent } = options;
  const named = [all, worker, execution, agent].filter((value) => value !== undefined).length;
  if (named !== 1) throw new UsageError('Say whom: exactly one of --all, --worker, --execution, --agent.');
  if (worker !== undefined) return { type: 'worker', workerId: requireId(worker, 'worker') };
  if (execution !== undefined)
    return { type: 'execution', executionId: await resolveExecutionId(session.client, execution) };
  if (agent !== undefined) return { type: 'agent', agentId: requireId(agent, 'agent') };
  return { type: 'all' };
}

async function showPlan(session: Session, request: KillRequest): Promise<void> {
  const plan = await session.client.planKill(request);
  if (session.isJson) return session.json(plan);
  for (const line of renderPlan(plan, request.scope)) session.print(line);
}

/** Who would be hit, for people. */
export function renderPlan(plan: KillPlan, scope: Scope): string[] {
  const workers = new Set(plan.targets.map(({ workerId }) => workerId)).size;
  const lines = plan.targets
    .slice(0, PLAN_SHOWN)
    .map(({ agentId, nodeId, workerId }) => `  ${nodeId}  ${agentId} on ${workerId}`);
  const rest = plan.targets.length - lines.length;
  if (rest > 0) lines.push(`  … and ${rest} more (--json has all)`);
  const where = `${count(plan.targets.length, 'agent')} on ${count(workers, 'worker')}`;
  return [
    `killing ${describeScope(scope)} would hit ${where} and stop ${count(plan.executions.length, 'execution')}`,
    ...lines,
    'nothing was killed: this was a dry run',
  ];
}

async function isConfirmed(session: Session, request: KillRequest): Promise<boolean> {
  if (!session.process.stdinIsTTY)
    throw new UsageError(
      'belay kill --all ends every agent of the fleet. Without a terminal add --yes; to look first add --dry-run.',
    );
  const plan = await session.client.planKill(request);
  const hit = `${count(plan.targets.length, 'agent')} of ${count(plan.executions.length, 'execution')}`;
  const answer = await session.process.ask(`This kills ${hit}. Type "${CONFIRMATION}" to go on: `);
  return answer?.trim() === CONFIRMATION;
}

async function killAndShow(session: Session, request: KillRequest, options: KillOptions): Promise<ExitCode> {
  if (!options.wait) {
    const receipt = await session.client.killWithoutWaiting(request);
    if (session.isJson) session.json(receipt);
    else session.print(`order ${receipt.orderId} is durable. Its evidence: belay receipt ${receipt.orderId}`);
    return EXIT.ok;
  }
  const what = `killing ${describeScope(request.scope)}`;
  const receipt = await waitForProof(
    session,
    what,
    async (signal) => await session.client.kill(request, { signal }),
  );
  if (receipt === undefined) return EXIT.unconfirmed;
  if (receipt === 'interrupted') {
    session.note('The order is durable and goes on. Look with: belay workers');
    return EXIT.interrupted;
  }
  if (session.isJson) session.json(receipt);
  else for (const line of renderReceipt(receipt, session.out, options)) session.print(line);
  return exitCodeOfReceipt(receipt);
}
