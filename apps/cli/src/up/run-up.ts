import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createClient } from '#libs/client';
import { BelayError, type WorkerRecord } from '#libs/contracts';
import { EXIT, type ExitCode } from '../exit-codes';
import type { Session } from '../session/session';
import { formatDuration } from '../text/format';
import { renderBanner, renderNextSteps } from './banner';
import { checkPort } from './check-port';
import { firstRunFile, showFirstRun } from './first-run';
import { Fleet } from './fleet';
import { ensureStateServer, type StateServer } from './local-server';
import { EndpointFile } from './endpoint-file';
import { packageRoot, programPath } from './package-root';
import { ensureToken, prepareDataDir } from './prepare-data-dir';
import { watchSignals } from './up-signals';
import { processEnvironment, readUpSettings } from './up-settings';

export interface UpOptions {
  readonly workers?: number;
  readonly port?: number;
  readonly firstRun?: boolean;
}

/**
 * Added to a worker's own bounds (stop timeout, grace, its safety net of 20 s): processes left after it are killed.
 * Milliseconds.
 */
const DRAIN_MARGIN_MS = 25_000;
const ORCHESTRATOR_MARGIN_MS = 10_000;
/** A line of the banner may take this long. Milliseconds. */
const HOLDING_MS = 2_000;

/** Starts all of Belay on this machine, keeps it up until a signal, then drains it. */
export async function runUp(session: Session, options: UpOptions): Promise<ExitCode> {
  const { dataDir } = session.connection;
  const open = session.process.closeToOthers();
  if (open !== undefined) session.note(`agents of the same user can read this process: ${open}`);
  const flags = {
    dataDir: dataDir.path,
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    ...(options.port === undefined ? {} : { port: options.port }),
  };
  const env = processEnvironment(session.process.env, flags);
  const settings = readUpSettings(env);
  const programs = { orchestrator: programPath('orchestrator'), worker: programPath('worker') };
  for (const program of Object.values(programs))
    if (!existsSync(program))
      throw new BelayError('INTERNAL', 'Belay is not built. Build it with: npm run build');
  prepareDataDir(dataDir);
  await checkPort(
    settings.httpHost,
    settings.httpPort,
    dataDir,
    options.firstRun === true ? 'npm start --' : 'belay up',
  );
  const token = ensureToken(dataDir, settings.token);
  const word = new EndpointFile(dataDir);

  let fleet: Fleet | undefined;
  const signals = watchSignals(session, {
    boundMs: settings.stopTimeoutMs,
    waitingFor: () => fleet?.waitingFor() ?? ['the state server'],
    force: () => fleet?.force(),
  });
  let server: StateServer | undefined;
  let failure: unknown;
  try {
    server = await ensureStateServer(env, dataDir.path, (line) => session.note(line));
    fleet = new Fleet({
      dataDir,
      server,
      programs,
      // Two that write one log would quote each other's lines.
      ...(word.other() === undefined ? {} : { logSuffix: `-of-${process.pid}` }),
      env: { ...env, ...addressFor(server), BELAY_TOKEN: token },
      workers: settings.workers,
      drainMs: settings.stopTimeoutMs + settings.graceMs + DRAIN_MARGIN_MS,
      orchestratorStopMs: settings.stopTimeoutMs + ORCHESTRATOR_MARGIN_MS,
      say: (line) => session.note(line),
      onOrchestrator: ({ url }) => {
        if (url !== undefined) word.give(url);
      },
    });
    if (!signals.isAsked()) await keepUp(session, fleet, server, { ...options, token, signals, word });
  } catch (error) {
    // A signal during the start makes the start fail, as asked.
    if (!signals.isAsked()) failure = error;
  }
  const isClean = fleet === undefined ? await stopServer(server) : await fleet.drain();
  word.takeBack();
  signals.release();
  if (failure !== undefined) throw failure;
  session.note(isClean && !signals.wasForced() ? 'Belay is down: drained.' : 'Belay is down: forced.');
  if (session.isJson) session.json({ type: 'down', drained: isClean && !signals.wasForced() });
  return isClean && !signals.wasForced() ? EXIT.ok : EXIT.failed;
}

/** A password that the user did not put into an environment stays out of it. */
function addressFor({ url, urlFile }: StateServer): NodeJS.ProcessEnv {
  return urlFile === undefined
    ? { BELAY_VALKEY_URL: url }
    : { BELAY_VALKEY_URL: undefined, BELAY_VALKEY_URL_FILE: urlFile };
}

interface KeepUp extends UpOptions {
  readonly token: string;
  readonly signals: ReturnType<typeof watchSignals>;
  readonly word: EndpointFile;
}

async function keepUp(session: Session, fleet: Fleet, server: StateServer, up: KeepUp): Promise<void> {
  const from = performance.now();
  const { dataDir, tokenFrom } = session.connection;
  const { url = '', workerIds } = await fleet.start();
  if (up.signals.isAsked()) return;
  const near = (path: string): string => {
    const short = relative(session.process.cwd, path);
    return short === '' || short.startsWith('..') ? path : short;
  };
  const tokenAt = tokenFrom === 'BELAY_TOKEN' ? 'BELAY_TOKEN' : near(dataDir.token);
  const facts = {
    url,
    server: server.describe,
    serverUrl: server.shownUrl,
    tokenAt,
    workers: workerIds.length,
    holding: await holdingOf(url, up.token, workerIds),
  };
  for (const line of renderBanner({ ...facts, logs: near(dataDir.logs) }, session.out)) session.print(line);
  session.note(`started in ${formatDuration(performance.now() - from)}`);
  if (session.isJson) session.json({ type: 'ready', url, workers: workerIds, dataDir: dataDir.path });
  if (up.firstRun === true) await showFirstRun(session, url, up.token, up.signals.asked);
  const other = up.word.other();
  if (other !== undefined)
    session.note(
      `Other commands on this data dir use the Belay that was here first (pid ${other.pid}, ${other.url}). ` +
        `To use this one give them --url ${url}`,
    );
  const file = existsSync(firstRunFile()) ? near(firstRunFile()) : 'FILE';
  const steps = renderNextSteps(commandName(session), file, other === undefined ? '' : ` --url ${url}`);
  if (!up.signals.isAsked()) for (const line of ['', ...steps]) session.print(line);
  await up.signals.untilAsked();
}

/** From the workers' own records; undefined where they cannot be read. */
async function holdingOf(
  url: string,
  token: string,
  ids: readonly string[],
): Promise<WorkerRecord[] | undefined> {
  try {
    const { items } = await createClient({ url, token, timeoutMs: HOLDING_MS }).workers();
    return items.filter(({ id }) => ids.includes(id));
  } catch {
    return undefined;
  }
}

/** In the checkout, and where the package is a dependency, `belay` is not on PATH, but npm knows the command. */
function commandName(session: Session): string {
  const { cwd } = session.process;
  return [cwd, join(cwd, 'node_modules', 'belayd')].includes(packageRoot()) ? 'npx belay' : 'belay';
}

async function stopServer(server: StateServer | undefined): Promise<boolean> {
  await server?.stop();
  return true;
}
