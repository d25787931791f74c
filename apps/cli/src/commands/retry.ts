import type { Command } from 'commander';
import { resolveExecutionId } from '../arguments/resolve-id';
import { EXIT, type ExitCode } from '../exit-codes';
import { watchExecution } from '../progress/watch-execution';
import type { Session } from '../session/session';
import type { Bind } from './action';

interface RetryOptions {
  readonly force?: boolean;
  readonly watch?: boolean;
}

/** `retry`: goes on with an ended execution from where it was. */
export function addRetry(program: Command, bind: Bind): void {
  program
    .command('retry')
    .description('go on with a stopped or failed execution; what completed keeps its result')
    .argument('<execution>', 'execution id')
    .option('--force', 'although an attempt of it was lost and never seen dead: it may run twice')
    .option('--watch', 'follow it to its end')
    .action(
      bind(async (session, given: string, options: RetryOptions) => {
        const id = await resolveExecutionId(session.client, given);
        return await retryAndShow(session, id, options);
      }),
    );
}

async function retryAndShow(session: Session, id: string, { force, watch }: RetryOptions): Promise<ExitCode> {
  const execution = await session.client.retryExecution(id, force === true ? { force } : {});
  if (watch === true) return await watchExecution(session, execution, { fromEpoch: execution.epoch });
  if (session.isJson) session.json(execution);
  else {
    const { total, completed } = execution.nodes;
    session.print(`${id}  ${session.out.state(execution.state)}`);
    session.print(`${completed} of ${total} nodes keep their results; the others begin again`);
    session.note(`Follow it: belay watch ${id}`);
  }
  return EXIT.ok;
}
