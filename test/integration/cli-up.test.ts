import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient, type BelayClient } from '#libs/client';
import { resolveServerBinary, startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { running } from '../support/executions';
import { eventually, processesWith } from '../support/fleet';
import { isAlive, procEntry } from '../support/proc';

const MAIN = resolve(__dirname, '../../dist/programs/belay.js');

let server: ThrowawayServer;
let dir: string;
let up: ChildProcess | undefined;
let text: string;
let exited: Promise<number | null>;

beforeAll(async () => void (await resolveServerBinary()), 300_000);
beforeEach(async () => {
  forked.clear();
  server = await startThrowawayServer();
  dir = mkdtempSync(join(tmpdir(), 'belay-up-'));
  text = '';
});
afterEach(async () => {
  up?.kill('SIGKILL');
  await exited;
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** `up` with the server of this test. */
function startUp(...args: string[]): void {
  startWith({ BELAY_VALKEY_URL: server.url }, ...args);
}
/** `up` with a local server of its own, unless `env` names one. */
function startWith(env: Record<string, string>, ...args: string[]): void {
  const child = spawn(process.execPath, [MAIN, 'up', '--port', '0', '--workers', '1', ...args], {
    cwd: dir,
    env: {
      PATH: process.env['PATH'],
      BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'],
      BELAY_STOP_TIMEOUT_MS: '500',
      BELAY_GRACE_MS: '200',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  exited = new Promise((done) => child.once('exit', (code) => done(code)));
  up = child;
}
const dataDir = (): string => join(dir, '.belay');
const says = async (words: string): Promise<true> =>
  await eventually(async () => (text.includes(words) ? true : undefined), `"${words}"`).catch(
    (error: Error) => {
      throw new Error(`${error.message}; it said:\n${text}`);
    },
  );
const client = (): BelayClient => {
  const { url } = JSON.parse(readFileSync(join(dataDir(), 'orchestrator.json'), 'utf8')) as { url: string };
  return createClient({ url, token: readFileSync(join(dataDir(), 'token'), 'utf8').trim() });
};
/** The id of an execution whose one agent runs for five minutes. */
async function runLong(): Promise<string> {
  const { execution } = await client().createExecution({
    name: 'long',
    nodes: [{ id: 'a', run: { command: ['sleep', '300'] } }],
  });
  await running(client(), execution.id, 1, 60_000);
  return execution.id;
}
/** The live services that `up` forked. They close their environment to their own user, so `up` as parent identifies them. */
const forked = new Map<number, string | undefined>();
const children = (): number[] => {
  for (const pid of childrenOf(up?.pid ?? 0))
    if (/dist\/programs\/(orchestrator|worker)\.js/.test(commandLine(pid)))
      forked.set(pid, procEntry(pid)?.startTime);
  return [...forked].flatMap(([pid, startTime]) =>
    isAlive(pid) && procEntry(pid)?.startTime === startTime ? [pid] : [],
  );
};
const commandLine = (pid: number): string => {
  const file = `/proc/${pid}/cmdline`;
  return existsSync(file) ? readFileSync(file, 'latin1') : '';
};
const childrenOf = (pid: number): number[] => {
  const list = `/proc/${pid}/task/${pid}/children`;
  return existsSync(list) ? (readFileSync(list, 'latin1').match(/\d+/g) ?? []).map(Number) : [];
};

it('R46 up starts everything for its owner alone, and one signal drains it without a trace', async () => {
  startUp();
  await says('Belay is up.');
  await says('Ctrl-C here drains and stops.');
  expect(statSync(dataDir()).mode & 0o777).toBe(0o700);
  expect(statSync(join(dataDir(), 'token')).mode & 0o777).toBe(0o600);
  expect(text).not.toContain(readFileSync(join(dataDir(), 'token'), 'utf8').trim());
  expect((await client().workers()).items).toHaveLength(1);
  expect(children()).toHaveLength(2);
  up?.kill('SIGTERM');
  expect(await exited).toBe(0);
  expect(text).toContain('Belay is down: drained.');
  expect(children()).toEqual([]);
  expect(existsSync(join(dataDir(), 'orchestrator.json'))).toBe(false);
});

it('R44 an agent that outlasts the drain is stopped, and the exit code says forced', async () => {
  startUp();
  await says('Belay is up.');
  const id = await runLong();
  up?.kill('SIGINT');
  expect(await exited).toBe(1);
  expect(text).toContain('worker 1 stopped, not drained');
  expect(processesWith(id)).toEqual([]);
});

it('new work is refused while up drains its workers', async () => {
  startWith({ BELAY_VALKEY_URL: server.url, BELAY_STOP_TIMEOUT_MS: '6000' });
  await says('Belay is up.');
  const orchestrator = client();
  const node = (command: string[]) => ({ name: 'any', nodes: [{ id: 'a', run: { command } }] });
  const { execution } = await orchestrator.createExecution(node(['sleep', '300']));
  await eventually(async () => (await orchestrator.execution(execution.id)).live === 1, 'its agent');
  up?.kill('SIGINT');
  // The worker waits for its agent; a submit meanwhile would not run.
  await eventually(
    async () =>
      orchestrator.createExecution(node(['true'])).then(
        () => false,
        (error: { code?: string }) => error.code === 'DRAINING',
      ),
    'the refusal of new work',
  );
  expect(await exited).toBe(1);
});

it('a worker that dies is started again, and a line says so', async () => {
  startUp();
  await says('Belay is up.');
  const pid = (await client().workers()).items[0]?.pid ?? 0;
  process.kill(pid, 'SIGKILL');
  await says('worker 1 ended unexpectedly (SIGKILL); starting it again in 500 ms');
  await says('worker 1 is back');
  expect(
    (await client().workers()).items.some((worker) => worker.pid !== pid && worker.state === 'running'),
  ).toBe(true);
  up?.kill('SIGTERM');
  expect(await exited).toBe(0);
});

it('R17 nothing is left when up itself is killed', async () => {
  startUp();
  await says('Belay is up.');
  expect(children()).toHaveLength(2);
  up?.kill('SIGKILL');
  await exited;
  await eventually(async () => (children().length === 0 ? true : undefined), 'its processes are gone');
});

describe('the state server that up started', () => {
  /** The tests' server as one program, with the libraries that it needs. */
  const localServer = async (): Promise<Record<string, string>> => {
    const { path, libraryPath = '' } = await resolveServerBinary();
    const program = join(dir, 'valkey-server');
    writeFileSync(program, `#!/bin/sh\nLD_LIBRARY_PATH='${libraryPath}' exec '${path}' "$@"\n`, {
      mode: 0o755,
    });
    return { BELAY_TEST_SERVER: program };
  };
  const serverPid = (): number =>
    (
      JSON.parse(readFileSync(join(dataDir(), 'valkey', 'server.json'), 'utf8')) as {
        process: { pid: number };
      }
    ).process.pid;

  it('is started again when it dies, with its data, and running executions complete', async () => {
    startWith(await localServer());
    await says('Belay is up.');
    const { execution } = await client().createExecution({
      name: 'first',
      nodes: [
        { id: 'a', run: { command: ['sleep', '3'] } },
        { id: 'b', run: { command: ['true'] }, dependsOn: ['a'] },
      ],
    });
    await running(client(), execution.id, 1, 60_000);
    // Appended data is flushed once a second.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const pid = serverPid();
    process.kill(pid, 'SIGKILL');
    await says('state server ended unexpectedly; starting it again in 500 ms, with its data');
    await says('state server is back (pid ');
    expect(serverPid()).not.toBe(pid);
    const ended = await eventually(async () => {
      const record = await client()
        .execution(execution.id)
        .catch(() => undefined);
      return record?.state === 'completed' ? record : undefined;
    }, 'the execution completes');
    expect(ended.nodes.completed).toBe(2);
    up?.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(text).toContain('state server closed');
  });

  it('is kept alive while the rest drains', async () => {
    startWith({ ...(await localServer()), BELAY_STOP_TIMEOUT_MS: '3000' });
    await says('Belay is up.');
    const id = await runLong();
    up?.kill('SIGINT');
    await says('SIGINT: draining');
    process.kill(serverPid(), 'SIGKILL');
    await says('state server is back (pid ');
    expect(await exited).toBe(1);
    expect(text).toContain('worker 1 stopped, not drained');
    expect(text).toContain('state server closed');
    expect(processesWith(id)).toEqual([]);
  });
});

it('of two on one data dir the first keeps its word, and hints name the data dir', async () => {
  startUp('--data-dir', '.belay');
  await says('Ctrl-C here drains and stops.');
  expect(text).toContain('  belay --data-dir .belay ps ');
  const { url } = client();
  const second = spawn(process.execPath, [MAIN, 'up', '--port', '0', '--workers', '0'], {
    cwd: dir,
    env: { PATH: process.env['PATH'], BELAY_VALKEY_URL: server.url },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [second.stdout, second.stderr])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = new Promise((done) => second.once('exit', done));
  await eventually(async () => (said.includes('Ctrl-C here') ? true : undefined), 'the second is up');
  expect(said).toContain(`use the Belay that was here first (pid ${up?.pid}, ${url})`);
  expect(client().url).toBe(url);
  second.kill('SIGTERM');
  expect(await ended).toBe(0);
  expect(client().url).toBe(url);
  expect((await client().workers()).items.filter(({ state }) => state === 'running')).toHaveLength(1);
  up?.kill('SIGTERM');
  expect(await exited).toBe(0);
});

it('a port in use is one clear line', async () => {
  startUp();
  await says('Belay is up.');
  const { port } = new URL(client().url);
  const second = spawn(process.execPath, [MAIN, 'up', '--port', port], {
    cwd: dir,
    env: { PATH: process.env['PATH'], BELAY_VALKEY_URL: server.url },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  second.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  expect(await new Promise((done) => second.once('exit', done))).toBe(1);
  expect(said).toBe(
    `belay: Port ${port} on 127.0.0.1 is in use by a Belay that is up already (pid ${up?.pid}). ` +
      `Take another one: belay up --port ${Number(port) + 1}\n`,
  );
  up?.kill('SIGTERM');
  expect(await exited).toBe(0);
});
