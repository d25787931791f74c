import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BelayError } from '#libs/contracts';
import { startDockerServer } from './docker-server';
import { findBinary, type Tried } from './find-binary';
import { checkGivenServer } from './given-server';
import { freePort, launchServer, urlOf, type Endpoint } from './launch';
import { withLock } from './locked';
import { noServer } from './no-server';
import { identify } from './process-identity';
import { borrow, findRunning, removeRecord, writeRecord } from './running-server';
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
import { wordsOf } from './words-of';

/** A start may have to download packages or pull an image first. */
const START_WAIT_MS = 360_000;

/**
 * The server Belay keeps its state in: the one of BELAY_VALKEY_URL, else a local one on the data directory, found or
 * fetched (valkey-server or redis-server on PATH, an unpacked copy, the platform's packages, Docker). A local server
 * ends with the process that started it, however that ends; a second caller on the same data directory gets the same
 * server and does not own it. Rejects with one SERVER_UNREACHABLE that lists what was tried.
 */
export async function ensureServer(options: EnsureServerOptions = {}): Promise<LocalServer> {
  const env = options.env ?? process.env;
  const report = options.report ?? ((): undefined => undefined);
  const given = env.BELAY_VALKEY_URL ?? '';
  if (given !== '') return checkGivenServer(given);

  const dataDir = resolve(options.dataDir ?? (env.BELAY_DATA_DIR || '.belay'));
  const dir = join(dataDir, 'valkey');
  makePrivate(dir);
  const lock = { waitMs: START_WAIT_MS, report, waitingFor: 'starting the server' };
  return withLock(join(dir, 'starting.lock'), lock, async () => {
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

  const docker = await startDockerServer(
    {
      dir,
      report: options.report,
      env: options.env,
      ...(options.port === undefined ? {} : { port: options.port }),
    },
    tried,
  );
  if (docker === undefined) throw noServer(tried);
  const place = { endpoint: { port: docker.port }, version: docker.version, source: 'docker' as const };
  record(dir, docker.watched, place);
  return own(dir, docker.watched, place);
}

async function startBinary(dir: string, binary: ServerBinary, options: StartOptions): Promise<LocalServer> {
  const { endpoint, madeDirectory } = await chooseEndpoint(dir, options);
  const place: Place = { endpoint, version: binary.version, source: binary.source };
  try {
    const watched = await launchServer({
      binary,
      dir,
      endpoint,
      appendonly: true,
      report: options.report,
      env: options.env,
      // Before it answers: if this process dies meanwhile, the next caller waits until that server is gone.
      onStarted: (started) => record(dir, started, place),
      // A socket directory made elsewhere goes when the server goes; the data stays.
      ...(madeDirectory === undefined ? {} : { removeDirectory: madeDirectory }),
      ...(options.startTimeoutMs === undefined ? {} : { startTimeoutMs: options.startTimeoutMs }),
    });
    options.report(
      `${binary.version.name} ${binary.version.version} (${binary.source}) at ${urlOf(endpoint)}`,
    );
    return own(dir, watched, place);
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

function describePlace(place: Place): Pick<LocalServer, 'url' | 'socketPath' | 'version' | 'source'> {
  return {
    url: urlOf(place.endpoint),
    ...('socketPath' in place.endpoint ? { socketPath: place.endpoint.socketPath } : {}),
    version: place.version,
    source: place.source,
  };
}

function record(dir: string, watched: WatchedServer, place: Place): void {
  const owner = identify(process.pid) ?? { pid: process.pid, startTime: '' };
  writeRecord(dir, { ...describePlace(place), owner, process: watched.process, watcher: watched.watcher });
}

function own(dir: string, watched: WatchedServer, place: Place): LocalServer {
  return {
    ...describePlace(place),
    ...(place.source === 'docker' ? {} : { pid: watched.process.pid }),
    reused: false,
    exited: watched.exited,
    stop: async () => {
      await watched.end();
      removeRecord(dir, watched.process);
    },
  };
}

/** Others on this machine must neither read the state nor reach the socket. */
function makePrivate(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chmodSync(dir, 0o700);
  } catch (cause) {
    const why = wordsOf(cause);
    throw new BelayError(
      'SERVER_UNREACHABLE',
      `The data directory ${dir} cannot be written (${why}); set BELAY_DATA_DIR to one that can.`,
      { cause },
    );
  }
}
