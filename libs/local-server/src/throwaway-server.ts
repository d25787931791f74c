import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BelayError } from '#libs/contracts';
import { sharedCacheDirectory } from './cache-directory';
import { findBinary, type Tried } from './find-binary';
import { freePort } from './free-port';
import { launchServer, urlOf, type Endpoint } from './launch';
import { noServer } from './no-server';
import { socketFits } from './socket-path';
import type { ServerBinary, ThrowawayServer, ThrowawayServerOptions } from './types';
import { killServer, type WatchedServer } from './watch-owner';

/**
 * Starts a server on a temporary directory, for one test or benchmark. The server and its directory are gone after `stop()`,
 * and also when this process dies without it.
 */
export async function startThrowawayServer(options: ThrowawayServerOptions = {}): Promise<ThrowawayServer> {
  const binary = await resolveServerBinary(options);
  const dir = mkdtempSync(
    join(socketFits(join(tmpdir(), 'belay-XXXXXX', 's')) ? tmpdir() : '/tmp', 'belay-'),
  );
  try {
    const endpoint: Endpoint =
      options.listen === 'tcp'
        ? { port: options.port ?? (await freePort()) }
        : { socketPath: join(dir, 's') };
    const configFile = options.config === undefined ? undefined : join(dir, 'server.conf');
    if (configFile !== undefined) writeFileSync(configFile, options.config ?? '');
    const launch = (): Promise<WatchedServer> =>
      launchServer({
        binary,
        dir,
        endpoint,
        appendonly: options.appendonly === true,
        removeDirectory: dir,
        ...(configFile === undefined ? {} : { configFile }),
        ...pick(options),
      });
    return throwaway(binary, dir, endpoint, await launch(), launch);
  } catch (error) {
    rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

/** Finds or fetches the program of throw-away servers, so that this happens once and with progress. */
export async function resolveServerBinary(options: ThrowawayServerOptions = {}): Promise<ServerBinary> {
  const env = options.env ?? process.env;
  const report = options.report ?? ((): undefined => undefined);
  const tried: Tried = [];
  const download = options.download ?? true;
  const found = await findBinary(
    { cacheDir: options.cacheDir ?? sharedCacheDirectory(), download, env, report },
    tried,
  );
  if (found === undefined) throw noServer(tried, ['give the URL of one that runs anywhere']);
  return found;
}

function pick(
  options: ThrowawayServerOptions,
): Pick<ThrowawayServerOptions, 'args' | 'startTimeoutMs' | 'report' | 'env'> {
  return {
    ...(options.args === undefined ? {} : { args: options.args }),
    ...(options.startTimeoutMs === undefined ? {} : { startTimeoutMs: options.startTimeoutMs }),
    ...(options.report === undefined ? {} : { report: options.report }),
    ...(options.env === undefined ? {} : { env: options.env }),
  };
}

function throwaway(
  binary: ServerBinary,
  dir: string,
  endpoint: Endpoint,
  first: WatchedServer,
  launch: () => Promise<WatchedServer>,
): ThrowawayServer {
  let current = first;
  let stopped: Promise<void> | undefined;
  return {
    url: urlOf(endpoint),
    ...('socketPath' in endpoint ? { socketPath: endpoint.socketPath } : {}),
    dir,
    version: binary.version,
    source: binary.source,
    reused: false,
    get pid() {
      return current.process.pid;
    },
    get exited() {
      return current.exited;
    },
    kill9: () => killServer(current.process),
    restart: async () => {
      if (stopped !== undefined)
        throw new BelayError('SERVER_UNREACHABLE', `The server in ${dir} was stopped.`);
      // The new watcher gets the directory before the old one ends, so no death of this process leaves it behind.
      await current.end({ keepDirectory: true });
      current = await launch();
    },
    stop: () => (stopped ??= current.end()),
  };
}
