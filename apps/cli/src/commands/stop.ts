import { Option, type Command } from 'commander';
import {
  isEnded,
  EXECUTION_MACHINE,
  STOP_REASONS,
  type StopReason,
  type StopResponse,
} from '#libs/contracts';
import type { StopRequest } from '#libs/client';
import { parseGrace } from '../arguments/parse-duration';
import { localKillOf } from '../arguments/scope-options';
import { resolveExecutionId } from '../arguments/resolve-id';
import { EXIT, exitCodeOfReceipt, type ExitCode } from '../exit-codes';
import { renderReceipt } from '../receipt/render-receipt';
import type { Session } from '../session/session';
import { describeSpent } from '../execution/describe-execution';
import { formatDuration } from '../text/format';
import type { Bind } from './action';
import { leftOrder } from './place-order';
import { tellSilence } from './tell-silence';
import { waitForProof } from './wait-for-proof';
import { withWayOut } from './way-out';

export interface StopOptions {
  readonly reason?: StopReason;
  readonly note?: string;
  readonly now?: boolean;
  readonly grace?: number;
  /** False with `--no-wait`. */
  readonly wait: boolean;
  readonly full?: boolean;
}

export function addStop(program: Command, bind: Bind): void {
  program
    .command('stop')
    .description('stop an execution, wait until every process is proved dead, and show the receipt')
    .argument('<execution>', 'execution id')
    .addOption(new Option('--reason <reason>', 'why').choices(STOP_REASONS).default('user_abort'))
    .option('--note <text>', 'a sentence for the record')
    .option('--now', 'SIGKILL at once, without the stop signal and its grace')
    .addOption(
      new Option('--grace <duration>', "between stop signal and SIGKILL, such as 2s; else each node's own")
        .argParser(parseGrace)
        .conflicts('now'),
    )
    .option('--no-wait', 'return when the order is durable')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, given: string, options: StopOptions) => {
        const act = options.wait ? stopAndShow(session, given, options) : stopOnly(session, given, options);
        return await act.catch((error: unknown) => {
          throw withWayOut(error, localStop(given));
        });
      }),
    );
}

/** The part of a request that `stop` and `kill` share. */
export function toStopRequest(options: Omit<StopOptions, 'wait'>): StopRequest {
  return {
    ...(options.reason === undefined ? {} : { reason: options.reason }),
    ...(options.note === undefined ? {} : { note: options.note }),
    ...(options.now === true ? { mode: 'immediate' as const } : {}),
    ...(options.grace === undefined ? {} : { graceMs: options.grace }),
  };
}

/** The command that ends an execution's agents without an orchestrator. */
function localStop(given: string): string {
  return localKillOf({ execution: given });
}

async function stopOnly(session: Session, given: string, options: StopOptions): Promise<void> {
  const heard = tellSilence(session, localStop(given));
  try {
    const id = await resolveExecutionId(session.client, given);
    const accepted = await session.client.stopWithoutWaiting(id, toStopRequest(options));
    if (session.isJson) return session.json(accepted);
    session.print(`${accepted.executionId}  ${accepted.status}`);
    if (accepted.orderId !== undefined)
      session.note(`The order is stored. Its evidence: belay receipt ${accepted.orderId}`);
  } finally {
    heard();
  }
}

async function stopAndShow(session: Session, given: string, options: StopOptions): Promise<ExitCode> {
  const request = toStopRequest(options);
  const local = localStop(given);
  const waited = await waitForProof(
    session,
    `stopping ${given}`,
    async ({ signal, stored }) => {
      const id = await resolveExecutionId(session.client, given, { signal });
      const { orderId } = await session.client.stopWithoutWaiting(id, request, { signal });
      stored(orderId);
      // This stop joins the open order; it waits for its end and its proof.
      return await session.client.stop(id, request, { signal });
    },
    { local },
  );
  if ('unanswered' in waited) return EXIT.unconfirmed;
  if ('interrupted' in waited) {
    session.note(leftOrder(local)(waited.stored));
    return EXIT.interrupted;
  }
  const { answer } = waited;
  if (session.isJson) session.json(answer);
  else for (const line of renderStop(answer, session, options.full === true)) session.print(line);
  // Without a receipt there was nothing to kill. An execution that is still stopping is not confirmed.
  if (!isEnded(EXECUTION_MACHINE, answer.status)) return EXIT.unconfirmed;
  return exitCodeOfReceipt(answer.receipt);
}

/** The answer to a stop, for people. */
export function renderStop(response: StopResponse, session: Pick<Session, 'out'>, full: boolean): string[] {
  const { summary } = response;
  const reason = response.reason === undefined ? '' : ` (${response.reason})`;
  const { finalCostUsd: costUsd, costEstimated, finalTokens: tokens } = response;
  const cost = describeSpent({ costUsd, costEstimated, ...(tokens === undefined ? {} : { tokens }) });
  const nodes = `${summary.nodesCompleted} of ${summary.nodesTotal} nodes completed, ${summary.nodesFailed} failed`;
  return [
    `${response.executionId}  ${session.out.state(response.status)}${reason}`,
    `${nodes}, ran ${formatDuration(summary.durationMs)}, ${cost}`,
    ...(response.receipt === undefined
      ? ['no agent was running: there was nothing to kill']
      : ['', ...renderReceipt(response.receipt, session.out, { full })]),
  ];
}
