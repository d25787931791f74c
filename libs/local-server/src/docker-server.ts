import { userInfo } from 'node:os';
import { freePort } from './free-port';
import { untilReady } from './launch';
import { runCommand } from './run-command';
import { aclFileName, keepLogin, type ServerLogin } from './server-login';
import type { Report, ServerVersion } from './types';
import { startWatched, type WatchedServer } from './watch-owner';
import { errorMessage } from './error-message';

const IMAGE = 'valkey/valkey:8-alpine';
/** Includes the time to pull the image. */
const START_TIMEOUT_MS = 180_000;

/** A server in a container, and where it answers. */
export interface DockerServer {
  readonly watched: WatchedServer;
  readonly port: number;
  readonly login: ServerLogin;
  readonly version: ServerVersion;
}

/**
 * Runs the server in a container on a published loopback port, with its data on the host. `docker run` stays in the foreground
 * under the same watcher as any server, and passes its signals on. Undefined, with a line in `tried`, when the engine does not
 * answer or the container does not come up.
 */
export async function startDockerServer(
  options: {
    readonly dir: string;
    readonly port?: number;
    /** The login of a server that is started again. */
    readonly login?: ServerLogin;
    readonly report: Report;
    readonly env: NodeJS.ProcessEnv;
  },
  tried: string[],
): Promise<DockerServer | undefined> {
  const engine = await runCommand('docker', ['version', '--format', '{{.Server.Version}}'], {
    timeoutMs: 5_000,
    env: options.env,
  });
  if (engine.code !== 0) {
    tried.push(
      `Docker: ${engine.failure === 'not found' ? 'not installed' : `the engine does not answer (${engine.failure})`}`,
    );
    return undefined;
  }
  const port = options.port ?? (await freePort());
  options.report(`starting ${IMAGE} in Docker ${engine.stdout.trim()} …`);
  let watched: WatchedServer | undefined;
  try {
    const login = keepLogin(options.dir, options.login);
    watched = await startWatched({ command: runArguments(options.dir, port), env: options.env });
    const running = watched;
    const { username, password } = login;
    const address = { host: '127.0.0.1', port, tls: false, username, password };
    await untilReady(address, { startTimeoutMs: START_TIMEOUT_MS, report: options.report }, () =>
      running.hasExited(),
    );
    return { watched, port, login, version: { name: 'valkey', version: '8' } };
  } catch (error) {
    await watched?.end();
    const why = errorMessage(error);
    tried.push(`Docker: ${IMAGE} ${why}; ${watched?.output().split('\n').at(-1) ?? 'no output'}`);
    return undefined;
  }
}

function runArguments(dir: string, port: number): string[] {
  const { uid, gid } = userInfo();
  const run = ['docker', 'run', '--rm', '--user', `${uid}:${gid}`, '--publish', `127.0.0.1:${port}:6379`];
  const server = ['--volume', `${dir}:/data`, IMAGE, 'valkey-server', '--dir', '/data'];
  const users = ['--aclfile', `/data/${aclFileName}`];
  // Inside the container every client comes from outside. Only the host's loopback reaches the published port.
  const access = ['--protected-mode', 'no'];
  const data = [
    '--appendonly',
    'yes',
    '--appendfsync',
    'everysec',
    '--save',
    '',
    '--maxmemory-policy',
    'noeviction',
  ];
  return [...run, ...server, ...users, ...access, ...data];
}
