import type { Command } from 'commander';
import { resolveExecutionId } from '../arguments/resolve-id';
import type { Bind } from './action';

export function addDelete(program: Command, bind: Bind): void {
  program
    .command('delete')
    .description('remove an ended execution, with its events, its results and the logs of its agents')
    .argument('<execution>', 'execution id')
    .action(
      bind(async (session, given: string) => {
        const id = await resolveExecutionId(session.client, given);
        const deleted = await session.client.deleteExecution(id);
        if (session.isJson) return session.json(deleted);
        session.print(`${id}  deleted (it was ${deleted.state})`);
      }),
    );
}
