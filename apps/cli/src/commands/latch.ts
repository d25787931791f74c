import type { Command } from 'commander';
import type { LatchRequest } from '#libs/client';
import { notePool } from '../arguments/note-pool';
import { addScopeOptions, readScope, type ScopeOptions } from '../arguments/scope-options';
import { describeLatch } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import { count } from '../text/format';
import type { Bind } from './action';

interface LatchOptions extends ScopeOptions {
  readonly note?: string;
  readonly dryRun?: boolean;
}

export function addLatch(program: Command, bind: Bind): void {
  addScopeOptions(program.command('latch'))
    .description('keep anything from starting in a scope until it is released; what runs goes on')
    .option('--note <text>', 'why, for whoever finds it')
    .option('--dry-run', 'only say what it would hold')
    .action(
      bind(async (session, options: LatchOptions) => {
        const scope = await readScope(session, options);
        const request = { scope, ...(options.note === undefined ? {} : { note: options.note }) };
        await (options.dryRun === true ? showPlan(session, request) : engage(session, request));
        await notePool(session, scope);
      }),
    );
}

async function engage(session: Session, request: LatchRequest): Promise<void> {
  const latch = await session.client.engageLatch(request);
  if (session.isJson) return session.json(latch);
  for (const line of describeLatch(latch)) session.print(line);
}

/** Whom a kill of the same scope would reach is what runs in it now. */
async function showPlan(session: Session, { scope }: LatchRequest): Promise<void> {
  const { targets } = await session.client.planKill({ scope });
  if (session.isJson) return session.json({ scope, running: targets.length });
  const where = describeScope(scope);
  session.print(`a latch would be engaged over ${where}: nothing would start in it until it is released`);
  session.print(`${count(targets.length, 'agent')} running in it now would go on`);
  session.print('nothing was latched: this was a dry run');
}
