import type { Command } from 'commander';
import { resolveExecutionId } from '../arguments/resolve-id';
import { watchExecution } from '../progress/watch-execution';
import type { Bind } from './action';

export function addWatch(program: Command, bind: Bind): void {
  program
    .command('watch')
    .description('follow an execution to its end; the exit code is that of its end')
    .argument('<execution>', 'execution id')
    .action(
      bind(async (session, given: string) => {
        const id = await resolveExecutionId(session.client, given);
        return await watchExecution(session, await session.client.execution(id));
      }),
    );
}
