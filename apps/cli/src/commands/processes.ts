import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import type { Session } from '../session/session';
import { UsageError } from '../exit-codes';
import { programPath } from '../up/package-root';
import type { Bind } from './action';

/** `orchestrator` and `worker`: one of Belay's processes in the foreground, for machines of their own. */
export function addProcesses(program: Command, bind: Bind): void {
  program
    .command('orchestrator')
    .description('run one orchestrator in the foreground (BELAY_VALKEY_URL says where the state is)')
    .action(bind(async (session) => await runHere(session, 'orchestrator')));
  program
    .command('worker')
    .description('run one worker in the foreground (BELAY_VALKEY_URL says where the state is)')
    .action(bind(async (session) => await runHere(session, 'worker')));
}

/** In this very process, so that signals, exit code and supervision are its own. */
async function runHere(session: Session, app: 'orchestrator' | 'worker'): Promise<void> {
  const program = programPath(app);
  if (!existsSync(program)) throw new UsageError(`The ${app} is not built. Build it with: npm run build`);
  session.process.env['BELAY_DATA_DIR'] = session.connection.dataDir.path;
  await import(pathToFileURL(program).href);
}
