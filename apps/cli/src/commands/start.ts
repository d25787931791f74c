import type { Command } from 'commander';
import { resolveExecutionId } from '../arguments/resolve-id';
import type { Bind } from './action';

export function addStart(program: Command, bind: Bind): void {
  program
    .command('start')
    .description('start an execution that was made with --no-start')
    .argument('<execution>', 'execution id')
    .action(
      bind(async (session, given: string) => {
        const id = await resolveExecutionId(session.client, given);
        const record = await session.client.start(id);
        if (session.isJson) return session.json(record);
        session.print(`${record.id}  ${record.state}`);
        session.note(`Follow it with: belay watch ${record.id}`);
      }),
    );
}
