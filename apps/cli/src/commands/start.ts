import type { Command } from 'commander';
import type { BelayClient } from '#libs/client';
import { BelayError, isBelayError } from '#libs/contracts';
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
        const record = await session.client.start(id).catch(async (error: unknown) => {
          throw await withRetry(session.client, id, error);
        });
        if (session.isJson) return session.json(record);
        session.print(`${record.id}  ${record.state}`);
        session.note(`Follow it with: belay watch ${record.id}`);
      }),
    );
}

/** The hint that an ended execution is retried, not started. */
async function withRetry(client: BelayClient, id: string, error: unknown): Promise<unknown> {
  if (!isBelayError(error) || error.code !== 'INVALID_TRANSITION') return error;
  const record = await client.execution(id).catch(() => undefined);
  if (record === undefined) return error;
  const { code, details } = error;
  const because = { cause: error, details };
  const { state } = record;
  if (state === 'stopped' || state === 'failed')
    return new BelayError(code, `${id} is ${state}. Continue it with: belay retry ${id}`, because);
  if (state === 'paused')
    return new BelayError(code, `${id} is paused. Resume it: belay resume ${id}`, because);
  return error;
}
