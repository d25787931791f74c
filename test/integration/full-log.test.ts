import { execFileSync, fork, spawnSync, type ChildProcess } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { NOISE_MS, until } from '../support/wait';

const PROGRAMS = resolve(__dirname, '../../dist/programs');
const TOKEN = 'token-of-a-full-log';

let dir: string;
let server: ThrowawayServer;
let child: ChildProcess | undefined;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'belay-full-log-'));
  server = await startThrowawayServer();
});
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    const gone = new Promise((done) => child?.once('exit', done));
    child.kill('SIGTERM');
    await gone;
  }
  child = undefined;
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

const log = (): string => join(dir, 'log');
const lines = (): string[] => readFileSync(log(), 'utf8').trimEnd().split('\n');

/** One program of a fleet, with its log on `stdout`. */
async function start(app: string, stdout: number): Promise<ChildProcess> {
  child = fork(join(PROGRAMS, `${app}.js`), [], {
    env: {
      PATH: `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
      HOME: process.env['HOME'],
      BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'],
      BELAY_VALKEY_URL: server.url,
      BELAY_DATA_DIR: dir,
      BELAY_HTTP_PORT: '0',
      BELAY_STOP_TIMEOUT_MS: '2000',
      BELAY_LEASE_TTL_MS: '4000',
      BELAY_HEARTBEAT_MS: '300',
      BELAY_GRACE_MS: '300',
      ...(app === 'orchestrator' ? { BELAY_TOKEN: TOKEN } : {}),
    },
    stdio: ['ignore', stdout, stdout, 'ipc'],
    execArgv: [],
  });
  const begun = child;
  await new Promise<void>((ready, reject) => {
    begun.once('message', () => ready());
    begun.once('exit', (code, signal) => reject(new Error(`${app} ended: ${code ?? signal}`)));
  });
  return begun;
}

/** Limits the size of a file that this process may write: at 0 further bytes each write fails, as on a full disk. */
function limit(pid: number | undefined, bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`]);
}

describe('a full disk of the log', () => {
  it.each(['orchestrator', 'worker'])('does not end the %s, which drains in time', async (app) => {
    const file = openSync(log(), 'a');
    const program = await start(app, file).finally(() => closeSync(file));
    await until(() => lines().some((line) => line.includes('"running"')), 'its first line');
    const { size } = statSync(log());
    limit(program.pid, size);
    const gone = new Promise((done) => program.once('exit', (code, signal) => done(code ?? signal)));
    program.kill('SIGTERM');
    expect(await gone).toBe(0);
    expect(statSync(log()).size).toBe(size);
  });

  it('does not end the orchestrator, which logs again by itself once there is room', async () => {
    const file = openSync(log(), 'a');
    const program = await start('orchestrator', file).finally(() => closeSync(file));
    await until(() => lines().some((line) => line.includes('"running"')), 'its first line');
    const [url] = lines().flatMap((line) => (JSON.parse(line) as { url?: string }).url ?? []);
    const { size } = statSync(log());
    limit(program.pid, size);
    await server.kill9();
    // Each failed request logs a line.
    const { status } = await fetch(`${url}/api/executions`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    expect(status).toBe(503);
    expect(statSync(log()).size).toBe(size);
    limit(program.pid, 'unlimited');
    await until(() => lines().some((line) => line.includes('request failed')), 'the line that waited');
    for (const line of lines()) JSON.parse(line);
    await server.restart();
  });
});

/** In a mount namespace of its own: `true` where one can be made, with a small file system of its own at `dir`. */
const SMALL_DISK = ['-rm', 'sh', '-c', 'mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"', 'sh'];
const canMount = spawnSync('unshare', [...SMALL_DISK, tmpdir(), 'true']).status === 0;
if (!canMount) process.stdout.write('A full disk of the data dir is not tested here: no mount namespace.\n');

(canMount ? describe : describe.skip)('a full disk of the data dir', () => {
  it('is named by `belay up` before it starts anything', () => {
    const { status, stderr, stdout } = spawnSync(
      'unshare',
      [...SMALL_DISK, dir, process.execPath, join(PROGRAMS, 'belay.js'), 'up', '--data-dir', dir],
      {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], HOME: dir, BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'] },
        timeout: NOISE_MS,
      },
    );
    expect(stderr).toContain(`The data dir ${dir} cannot be used: no space is left on its disk. Free some`);
    expect(`${stdout}${stderr}`).not.toContain('    at ');
    expect(status).toBe(1);
  });
});
