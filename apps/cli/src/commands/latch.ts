import type { Command } from 'commander';
import type { KillPlan, LatchRequest } from '#libs/client';
import type { Latch } from '#libs/contracts';
import { addScopeOptions, readScope, type ScopeOptions } from '../arguments/scope-options';
import { exitCodeOfWarning } from '../exit-codes';
import { describeLatch } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import { count } from '../text/format';
import type { Bind } from './action';
import { noteWarning } from './note-warning';
import { releaseNeedsOption } from './release-needs';

interface LatchOptions extends ScopeOptions {
  readonly note?: string;
  readonly dryRun?: boolean;
  readonly releaseNeeds?: number;
}

export function addLatch(program: Command, bind: Bind): void {
  addScopeOptions(program.command('latch'))
    .description('let nothing start in a scope until it is released; running agents go on')
    .option('--note <text>', 'why; `belay latches` shows it')
    .addOption(releaseNeedsOption())
    .option('--dry-run', 'only show what it would cover')
    .action(
      bind(async (session, options: LatchOptions) => {
        const scope = await readScope(session, options);
        const { note, releaseNeeds } = options;
        const request = {
          scope,
          ...(note === undefined ? {} : { note }),
          ...(releaseNeeds === undefined ? {} : { releaseNeeds }),
        };
        const answer = await (options.dryRun === true
          ? showPlan(session, request)
          : engage(session, request));
        noteWarning(session, answer);
        return exitCodeOfWarning(answer);
      }),
    );
}

async function engage(session: Session, request: LatchRequest): Promise<Latch> {
  const latch = await session.client.engageLatch(request);
  if (session.isJson) session.json(latch);
  else for (const line of describeLatch(latch)) session.print(line);
  return latch;
}

/** A latch's plan is that of a kill of the same scope: the agents that run in it now. */
async function showPlan(session: Session, { scope }: LatchRequest): Promise<KillPlan> {
  const plan = await session.client.planKill({ scope });
  const { targets, warning } = plan;
  if (session.isJson) {
    session.json({ scope, running: targets.length, ...(warning === undefined ? {} : { warning }) });
    return plan;
  }
  const where = describeScope(scope);
  session.print(`a latch would be engaged over ${where}: nothing would start in it until it is released`);
  session.print(`${count(targets.length, 'agent')} running in it now would go on`);
  session.print('nothing was latched: this was a dry run');
  return plan;
}
