import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Command } from 'commander';
import { withSecretFiles } from '#libs/service';
import { UsageError } from '../exit-codes';
import type { Session } from '../session/session';
import { ensureStateServer } from '../up/local-server';
import { programPath } from '../up/package-root';
import { ensureToken, prepareDataDir } from '../up/prepare-data-dir';
import { SupervisedServer } from '../up/supervised-server';
import { processEnvironment, readUpSettings } from '../up/up-settings';
import type { Bind } from './action';

/** `orchestrator` and `worker`: one of Belay's processes in the foreground, for machines of their own. */
export function addProcesses(program: Command, bind: Bind): void {
  program
    .command('orchestrator')
    .description('run one orchestrator in the foreground (state: BELAY_VALKEY_URL, or the local server)')
    .action(bind(async (session) => await runHere(session, 'orchestrator')));
  program
    .command('worker')
    .description('run one worker in the foreground (state: BELAY_VALKEY_URL, or the local server)')
    .action(bind(async (session) => await runHere(session, 'worker')));
}

/** Runs in this very process, so that signals, exit code and supervision are the service's own. */
async function runHere(session: Session, app: 'orchestrator' | 'worker'): Promise<void> {
  const program = programPath(app);
  if (!existsSync(program)) throw new UsageError(`The ${app} is not built. Build it with: npm run build`);
  const { dataDir } = session.connection;
  const { env } = session.process;
  const merged = processEnvironment(withSecretFiles(env), { dataDir: dataDir.path });
  const settings = readUpSettings(merged);
  prepareDataDir(dataDir);
  const server = await ensureStateServer(merged, dataDir.path, (line) => session.note(line));
  new SupervisedServer(server, (line) => session.note(line)).keep();
  // The program reads its settings from the environment, as under a supervisor.
  for (const name of ['BELAY_URL', 'BELAY_TOKEN_FILE', 'BELAY_VALKEY_URL_FILE']) delete env[name];
  env['BELAY_DATA_DIR'] = dataDir.path;
  env['BELAY_VALKEY_URL'] = server.url;
  if (app === 'orchestrator') env['BELAY_TOKEN'] = ensureToken(dataDir, settings.token);
  createRequire(program)(program);
}
