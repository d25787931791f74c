import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { resolveExecutionId } from '../arguments/resolve-id';
import { UsageError } from '../exit-codes';
import type { Bind } from './action';

export function addSignal(program: Command, bind: Bind): void {
  program
    .command('signal')
    .description('wake the nodes of an execution that wait for a signal')
    .argument('<execution>', 'execution id')
    .argument('<name>', 'name of the signal')
    .option('--payload <file>', 'JSON for the nodes that wake; - for stdin')
    .action(
      bind(async (session, execution: string, name: string, { payload }: { readonly payload?: string }) => {
        const { client } = session;
        const id = await resolveExecutionId(client, execution);
        const signalled = await client.signal(id, name, payload === undefined ? null : readPayload(payload));
        if (session.isJson) return session.json(signalled);
        const { woken, kept } = signalled;
        session.print(
          kept ? `${name} is kept: no node waits for it yet` : `${name} woke ${woken.join(', ')}`,
        );
      }),
    );
}

function readPayload(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'));
  } catch (error) {
    throw new UsageError(`${file} cannot be read as JSON: ${(error as Error).message}`);
  }
}
