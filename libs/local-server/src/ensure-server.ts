import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BelayError } from '#libs/contracts';
import { startDockerServer } from './docker-server';
import { findBinary, type Tried } from './find-binary';
import { checkGivenServer } from './given-server';
import { freePort } from './free-port';
import { launchServer, shownUrlOf, urlOf, type Endpoint } from './launch';
import { noServer } from './no-server';
import { ownServer, withStartLock } from './owned-server';
import { identify } from './process-identity';
import { borrow, findRunning, writeRecord } from './running-server';
import { keepLogin, keepUrl, type ServerLogin } from './server-login';
import { placeSocket } from './socket-path';
import type {
  EnsureServerOptions,
  LocalServer,
  Report,
  ServerBinary,
  ServerSource,
  ServerVersion,
} from './types';
import type { WatchedServer } from './watch-owner';
import { errorMessage } from './error-message';

/**
 * The server that keeps Belay's state: the one of BELAY_VALKEY_URL, else a local one on the data directory, found or fetched
 * (valkey-server or redis-server on PATH, an unpacked copy, the platform's packages, Docker). A local server ends with the
 * process that started it, however that process ends. A second caller on the same data directory gets the same server and does
 * not own it. Rejects with one SERVER_UNREACHABLE that lists every way that was tried.
 */
export async function ensureServer(options: EnsureServerOptions = {}): Promise<LocalServer> {
  const env = options.env ?? process.env;
  const report = options.report ?? ((): undefined => undefined);
  const given = env.BELAY_VALKEY_URL ?? '';
  if (given !== '') return checkGivenServer(given);

  const dataDir = resolve(options.dataDir ?? (env.BELAY_DATA_DIR || '.belay'));
  const dir = join(dataDir, 'valkey');
  makePrivate(dir);
  return withStartLock(dir, report, async () => {
    const running = await findRunning(dir);
    if (typeof running === 'string') {
      throw new BelayError('SERVER_UNREACHABLE', `The data directory ${dataDir} is in use: ${running}.`);
    }
    if (running !== undefined) {
      report(`using the server that process ${running.owner.pid} runs on ${dataDir}`);
      return borrow(running);
    }
    return startOn(dir, { ...options, env, report, cacheDir: options.cacheDir ?? join(dataDir, 'server') });
  });
}

interface StartOptions extends EnsureServerOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly report: Report;
  readonly cacheDir: string;
}

async function startOn(dir: string, options: StartOptions): Promise<LocalServer> {
  const tried: Tried = [];
  const binary = await findBinary(options, tried);
  if (binary !== undefined) return startBinary(dir, binary, options);

  const docker = await startDocker(dir, options, tried);
  if (docker === undefined) throw noServer(tried);
  const { port, version, login } = docker;
  const place = { endpoint: { port, login }, version, source: 'docker' as const };
  record(dir, docker.watched, place);
  return ownServer({
    dir,
    facts: describePlace(place, dir),
    first: docker.watched,
    report: options.report,
    launch: async () => {
      const refused: Tried = [];
      const again = await startDocker(dir, { ...options, port }, refused, login);
      if (again === undefined) throw noServer(refused);
      record(dir, again.watched, place);
      return again.watched;
    },
  });
}

async function startDocker(
  dir: string,
  { report, env, port }: StartOptions,
  tried: Tried,
  login?: ServerLogin,
): ReturnType<typeof startDockerServer> {
  const kept = { ...(port === undefined ? {} : { port }), ...(login === undefined ? {} : { login }) };
  return startDockerServer({ dir, report, env, ...kept }, tried);
}

async function startBinary(dir: string, binary: ServerBinary, options: StartOptions): Promise<LocalServer> {
  const { madeDirectory, ...chosen } = await chooseEndpoint(dir, options);
  const login = keepLogin(dir);
  const endpoint: Endpoint = { ...chosen.endpoint, login };
  const place: Place = { endpoint, version: binary.version, source: binary.source };
  const launch = async (onStarted?: (started: WatchedServer) => void): Promise<WatchedServer> => {
    // Agents of this user may have removed the login files.
    keepLogin(dir, login);
    // A start that failed has removed the socket's directory.
    if (madeDirectory !== undefined) mkdirSync(madeDirectory, { recursive: true, mode: 0o700 });
    return await launchServer({
      binary,
      dir,
      endpoint,
      appendonly: true,
      report: options.report,
      env: options.env,
      // Recorded before the server answers: if this process dies meanwhile, the next caller waits until that server is gone.
      onStarted: (started) => {
        record(dir, started, place);
        onStarted?.(started);
      },
      // A socket directory made elsewhere is removed with the server; the data stays.
      ...(madeDirectory === undefined ? {} : { removeDirectory: madeDirectory }),
      ...(options.startTimeoutMs === undefined ? {} : { startTimeoutMs: options.startTimeoutMs }),
    });
  };
  try {
    const first = await launch();
    options.report(
      `${binary.version.name} ${binary.version.version} (${binary.source}) at ${shownUrlOf(endpoint)}`,
    );
    return ownServer({ dir, facts: describePlace(place, dir), first, launch, report: options.report });
  } catch (error) {
    if (madeDirectory !== undefined) rmSync(madeDirectory, { recursive: true, force: true });
    throw error;
  }
}

async function chooseEndpoint(
  dir: string,
  options: StartOptions,
): Promise<{ endpoint: Endpoint; madeDirectory?: string }> {
  if (options.listen === 'tcp') return { endpoint: { port: options.port ?? (await freePort()) } };
  const { socketPath, madeDirectory } = placeSocket(dir);
  return { endpoint: { socketPath }, ...(madeDirectory === undefined ? {} : { madeDirectory }) };
}

interface Place {
  readonly endpoint: Endpoint;
  readonly version: ServerVersion;
  readonly source: ServerSource;
}

function describePlace(
  place: Place,
  dir: string,
): Pick<LocalServer, 'url' | 'urlFile' | 'socketPath' | 'version' | 'source'> {
  const url = urlOf(place.endpoint);
  return {
    url,
    urlFile: keepUrl(dir, url),
    ...('socketPath' in place.endpoint ? { socketPath: place.endpoint.socketPath } : {}),
    version: place.version,
    source: place.source,
  };
}

function record(dir: string, watched: WatchedServer, place: Place): void {
  const owner = identify(process.pid) ?? { pid: process.pid, startTime: '' };
  writeRecord(dir, {
    ...describePlace(place, dir),
    owner,
    process: watched.process,
    watcher: watched.watcher,
  });
}

/** Lets no other user of this machine read the state or reach the socket. */
function makePrivate(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chmodSync(dir, 0o700);
  } catch (cause) {
    const why = errorMessage(cause);
    throw new BelayError(
      'SERVER_UNREACHABLE',
      `The data directory ${dir} cannot be written (${why}); set BELAY_DATA_DIR to one that can.`,
      { cause },
    );
  }
}
