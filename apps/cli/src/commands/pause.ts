import { Option, type Command } from 'commander';
import type { Paused, PauseRequest } from '#libs/client';
import { resolveExecutionId } from '../arguments/resolve-id';
import type { ExitCode } from '../exit-codes';
import { describePause } from '../execution/describe-pause';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { proveAndShow } from './prove-and-show';
import type { ProofWait } from './wait-for-proof';

interface PauseOptions extends PauseRequest {
  readonly full?: boolean;
}

/** The commands `pause` and `resume`, which ends a pause. */
export function addPause(program: Command, bind: Bind): void {
  program
    .command('pause')
    .description(
      'start nothing more of an execution; with --mode freeze stop its agents where they stand, too',
    )
    .argument('<execution>', 'execution id')
    .addOption(
      new Option('--mode <mode>', 'drain lets running agents finish, freeze stops them where they stand')
        .choices(['drain', 'freeze'])
        .default('drain'),
    )
    .option('--note <text>', 'a sentence for the record')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, given: string, options: PauseOptions) => {
        const id = await resolveExecutionId(session.client, given);
        return await pauseAndShow(session, id, options);
      }),
    );
  program
    .command('resume')
    .description('resume a paused execution where it stood')
    .argument('<execution>', 'execution id')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, given: string, options: { readonly full?: boolean }) => {
        const id = await resolveExecutionId(session.client, given);
        return await resumeAndShow(session, id, options);
      }),
    );
}

/** Pauses one execution; with a freeze, resolves when its agents were seen stopped. */
export async function pauseAndShow(session: Session, id: string, options: PauseOptions): Promise<ExitCode> {
  const { mode = 'drain', note } = options;
  const request = { mode, ...(note === undefined ? {} : { note }) };
  const act = {
    what: `${mode === 'freeze' ? 'freezing' : 'pausing'} ${id}`,
    ask: async ({ signal }: ProofWait) => await session.client.pause(id, request, { signal }),
    receiptOf: ({ receipt }: Paused) => receipt,
    head: (answer: Paused) => headOf(session, answer),
    hints: () => [`Resume it: belay resume ${id}`],
    whenLeft: () => `It may have been paused. Look with: belay get ${id}`,
  };
  return await proveAndShow(session, act, options);
}

/** Resumes one execution, and shows the receipt of its thaw where it was frozen. */
export async function resumeAndShow(
  session: Session,
  id: string,
  options: { readonly full?: boolean },
): Promise<ExitCode> {
  const act = {
    what: `resuming ${id}`,
    ask: async ({ signal }: ProofWait) => await session.client.resume(id, { signal }),
    receiptOf: ({ receipt }: Paused) => receipt,
    head: (answer: Paused) => headOf(session, answer),
    hints: () => [`Follow it: belay watch ${id}`],
    whenLeft: () => `It may have been resumed. Look with: belay get ${id}`,
  };
  return await proveAndShow(session, act, options);
}

function headOf(session: Session, { execution }: Paused): string[] {
  const pause = describePause(execution);
  return [`${execution.id}  ${session.out.state(execution.state)}`, ...(pause === undefined ? [] : [pause])];
}
