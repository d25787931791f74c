import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dataDirAt, type DataDir } from '../session/data-dir';
import { scriptedProcess } from '../../../../test/support/scripted-process';
import { openSession } from '../session/session';
import { createStyle } from '../session/style';
import { renderBanner, renderNextSteps, type BannerFacts } from './banner';
import { checkPort } from './check-port';
import { describeLogLine, isOfAnother } from './describe-log-line';
import { Fleet, type FleetPlan } from './fleet';
import type { StateServer } from './local-server';
import { SupervisedProgram } from './supervised-program';
import { SupervisedServer } from './supervised-server';
import { watchSignals } from './up-signals';
import { processEnvironment, readUpSettings } from './up-settings';

/** Programs for `up` to run: each is ready at once, and then behaves as its name says. */
const PROGRAMS = {
  good: "process.on('SIGTERM', () => process.exit(0)); ready();",
  forced: "process.on('SIGTERM', () => process.exit(3)); ready();",
  deaf: "process.on('SIGTERM', () => {}); ready();",
  broken: "console.error('no server at all'); process.exit(1);",
  silent: "process.on('SIGTERM', () => process.exit(0));",
  // Dies of an uncaught error that has several fields.
  thrower:
    "ready(); setTimeout(() => { throw Object.assign(new TypeError('ENOSPC: no space left on device, write'), { errno: -28, code: 'ENOSPC', syscall: 'write' }); }, 50);",
  // Reports its identity by its token.
  teller:
    "require('fs').appendFileSync(process.env.MARK, `${process.env.BELAY_TOKEN ?? 'none'}\\n`); process.on('SIGTERM', () => process.exit(0)); ready();",
  // Dies after its first start, and leaves a mark so that the second one stays.
  fragile:
    "const fs = require('fs'); process.on('SIGTERM', () => process.exit(0)); ready(); if (!fs.existsSync(process.env.MARK)) { fs.writeFileSync(process.env.MARK, ''); setTimeout(() => { console.log('ouch'); process.exit(7); }, 50); }",
} as const;
const READY =
  "const ready = () => process.send({ type: 'ready', url: 'http://x', workerId: 'wrk_' + process.pid });" +
  "process.on('disconnect', () => process.exit(0)); setInterval(() => {}, 1000);\n";

let dir: string;
let dataDir: DataDir;
let said: string[];
const say = (line: string): void => void said.push(line);
const TUNING = { readyMs: 5_000, firstDelayMs: 20, maxDelayMs: 50, settledMs: 60_000 };

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'belay-up-'));
  dataDir = dataDirAt(dir, {}, undefined);
  mkdirSync(dataDir.logs, { recursive: true });
  said = [];
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function program(name: keyof typeof PROGRAMS): string {
  const path = join(dir, `${name}.cjs`);
  writeFileSync(path, READY + PROGRAMS[name]);
  return path;
}
function supervised(name: keyof typeof PROGRAMS, tuning = TUNING): SupervisedProgram {
  const spec = {
    name: 'worker 1',
    program: program(name),
    logFile: join(dataDir.logs, 'worker-1.log'),
    env: { PATH: process.env['PATH'], MARK: join(dir, 'mark') },
  };
  return new SupervisedProgram(spec, say, undefined, tuning);
}
async function eventually(check: () => boolean): Promise<void> {
  for (const until = Date.now() + 10_000; Date.now() < until;) {
    if (check()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`it did not come: ${said.join(' | ')}`);
}

describe('a supervised program', () => {
  it('is ready, then drained', async () => {
    const one = supervised('good');
    expect(await one.start()).toMatchObject({ type: 'ready', url: 'http://x' });
    expect(one.pid).toBeGreaterThan(0);
    expect(await one.stop(5_000)).toBe('drained');
    expect(one.pid).toBeUndefined();
    expect(await one.stop(5_000)).toBe('drained');
    expect(said).toEqual([]);
  });

  it('that fails to start shows its last words', async () => {
    await expect(supervised('broken').start()).rejects.toThrow(
      `worker 1 did not start: exit code 1. Its log ${join(dataDir.logs, 'worker-1.log')} ends with:\n  no server at all`,
    );
  });

  it('that never gets ready is ended', async () => {
    const one = supervised('silent', { ...TUNING, readyMs: 300 });
    await expect(one.start()).rejects.toThrow('worker 1 did not start: it was not ready within 300 ms.');
    expect(one.pid).toBeUndefined();
  });

  it('that dies is started again, and a line says so', async () => {
    const one = supervised('fragile');
    await one.start();
    await eventually(() => said.length === 2);
    expect(said[0]).toBe(
      'worker 1 ended unexpectedly (exit code 7); starting it again in 20 ms; its last log line: ouch',
    );
    expect(said[1]).toMatch(/^worker 1 is back \(pid \d+\)$/);
    expect(await one.stop(5_000)).toBe('drained');
  });

  it('that dies of an error is said to have died of that, not of the version of Node', async () => {
    const one = supervised('thrower', { ...TUNING, firstDelayMs: 60_000, maxDelayMs: 60_000 });
    await one.start();
    await eventually(() => said.length === 1);
    expect(said[0]).toBe(
      'worker 1 ended unexpectedly (exit code 1); starting it again in 1 min 0 s; ' +
        'its last log line: TypeError: ENOSPC: no space left on device, write',
    );
    expect(await one.stop(5_000)).toBe('drained');
  });

  it('whose log cannot be opened when it is to start again is tried again later', async () => {
    const one = supervised('fragile', { ...TUNING, firstDelayMs: 300 });
    await one.start();
    await eventually(() => said.length === 1);
    const kept = `${dataDir.logs}.kept`;
    renameSync(dataDir.logs, kept);
    writeFileSync(dataDir.logs, 'a file in the place of the folder');
    await eventually(() => said.length >= 2);
    expect(said[1]).toMatch(
      /^worker 1 ended unexpectedly \(it cannot be started: ENOTDIR.*\); starting it again in/,
    );
    rmSync(dataDir.logs);
    renameSync(kept, dataDir.logs);
    await eventually(() => said.some((line) => line.startsWith('worker 1 is back')));
    expect(await one.stop(5_000)).toBe('drained');
  });

  it('that had to force its agents is not drained', async () => {
    const one = supervised('forced');
    await one.start();
    expect(await one.stop(5_000)).toBe('forced');
  });

  it('that does not end is killed in time', async () => {
    const one = supervised('deaf');
    const { workerId = '' } = await one.start();
    expect(await one.stop(200)).toBe('killed');
    expect(said).toEqual([`worker 1 did not end within 200 ms: SIGKILL to pid ${workerId.slice(4)}`]);
    expect(() => process.kill(Number(workerId.slice(4)), 0)).toThrow('ESRCH');
  });
});

/** A state server that ends on request. */
function server(more: Partial<StateServer> = {}): StateServer {
  const exited = new Promise<void>(() => undefined);
  return { url: 'u', shownUrl: 'u', describe: 'd', exited, stop: async () => say('server.stop()'), ...more };
}

describe('a supervised state server', () => {
  const tuning = { firstDelayMs: 10, maxDelayMs: 20, tries: 2, settledMs: 60_000, stopMs: 100 };

  it('that ends is started again, and lines say so', async () => {
    const ends: (() => void)[] = [];
    const state = Object.defineProperty(server({ pid: 5, revive: async () => say('revive()') }), 'exited', {
      get: async () => await new Promise<void>((resolve) => ends.push(resolve)),
    });
    const kept = new SupervisedServer(state, say, tuning).keep();
    expect(kept.describe()).toBe('the state server (pid 5)');
    ends[0]?.();
    await eventually(() => ends.length === 2);
    expect(said).toEqual([
      'state server ended unexpectedly; starting it again in 10 ms, with its data',
      'revive()',
      'state server is back (pid 5)',
    ]);
    expect(await kept.stop()).toBe(true);
    ends[1]?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(said.slice(3)).toEqual(['server.stop()']);
  });

  it('that cannot be restarted is given up, with advice', async () => {
    const revive = async (): Promise<void> => await Promise.reject(new Error('no disk.\nmore'));
    new SupervisedServer(server({ exited: Promise.resolve(), revive, log: '/l' }), say, tuning).keep();
    await eventually(() => said.length === 4);
    expect(said).toEqual([
      'state server ended unexpectedly; starting it again in 10 ms, with its data',
      'state server did not start (no disk); starting it again in 20 ms, with its data',
      'state server cannot be brought back after 2 tries: no disk. Look into /l.',
      expect.stringContaining('belay kill --local --all'),
    ]);
  });

  it('that does not end is told', async () => {
    const kept = new SupervisedServer(
      server({ stop: async () => await new Promise(() => undefined) }),
      say,
      tuning,
    );
    expect(await kept.stop()).toBe(false);
    expect(said).toEqual(['the state server did not end within 100 ms']);
  });
});

describe('a log line', () => {
  it('is told as text: its message, and that of its error', () => {
    expect(describeLogLine('{"level":60,"msg":"did not start","err":{"message":"no server"}}')).toBe(
      'did not start: no server',
    );
    expect(describeLogLine('{"level":30,"msg":"ready"}')).toBe('ready');
    expect(describeLogLine('{"level":30')).toBe('{"level":30');
    expect(describeLogLine('Segmentation fault')).toBe('Segmentation fault');
    expect(isOfAnother('{"workerId":"a","msg":"x"}', 'b')).toBe(true);
    expect(isOfAnother('{"workerId":"a","msg":"x"}', undefined)).toBe(false);
    expect(isOfAnother('plain', 'b')).toBe(false);
  });
});

describe('a fleet', () => {
  const plan = (more: Partial<FleetPlan> = {}): FleetPlan => ({
    dataDir,
    server: server(),
    env: { PATH: process.env['PATH'] },
    workers: 2,
    programs: { orchestrator: program('good'), worker: program('good') },
    drainMs: 5_000,
    orchestratorStopMs: 5_000,
    say,
    onOrchestrator: ({ url }) => say(`ready at ${url}`),
    tuning: TUNING,
    ...more,
  });

  it('hands the admin token to the orchestrator, and to no worker: agents run as its user', async () => {
    const mark = join(dir, 'tokens');
    const programs = { orchestrator: program('teller'), worker: program('teller') };
    const env = { PATH: process.env['PATH'], MARK: mark, BELAY_TOKEN: 'the-admin-token' };
    const fleet = new Fleet(plan({ programs, env, workers: 2 }));
    await fleet.start();
    expect(readFileSync(mark, 'utf8')).toBe('the-admin-token\nnone\nnone\n');
    await fleet.drain();
  });

  it('drains workers, then the orchestrator, then the server, once', async () => {
    const fleet = new Fleet(plan());
    expect(await fleet.start()).toMatchObject({ url: 'http://x' });
    expect(fleet.waitingFor().map((name) => name.replace(/ \(.*/, ''))).toEqual([
      'worker 1',
      'worker 2',
      'orchestrator',
    ]);
    const [first, second] = [fleet.drain(), fleet.drain()];
    expect(second).toBe(first);
    expect(await first).toBe(true);
    expect(said[0]).toBe('ready at http://x');
    expect(said.slice(1, 3).sort()).toEqual(['worker 1 drained', 'worker 2 drained']);
    expect(said.slice(3)).toEqual(['orchestrator stopped', 'server.stop()', 'state server closed']);
  });

  it('that fails half-way leaves nothing after its drain', async () => {
    const fleet = new Fleet(plan({ programs: { orchestrator: program('good'), worker: program('broken') } }));
    await expect(fleet.start()).rejects.toThrow('did not start');
    expect(await fleet.drain()).toBe(true);
    expect(fleet.waitingFor()).toEqual([]);
  });

  it('that is forced ends at once and is not clean', async () => {
    const fleet = new Fleet(plan({ programs: { orchestrator: program('good'), worker: program('deaf') } }));
    await fleet.start();
    const drained = fleet.drain();
    fleet.force();
    expect(await drained).toBe(false);
    expect(fleet.waitingFor()).toEqual([]);
  });
});

describe('a drain', () => {
  it('is bounded: processes left at its end are killed, and lines name what the drain waits for', async () => {
    const programs = { orchestrator: program('deaf'), worker: program('deaf') };
    const fleet = new Fleet({
      dataDir,
      server: server(),
      env: { PATH: process.env['PATH'] },
      workers: 1,
      programs,
      drainMs: 300,
      tellMs: 100,
      orchestratorStopMs: 200,
      say,
      onOrchestrator: () => undefined,
      tuning: TUNING,
    });
    await fleet.start();
    expect(await fleet.drain()).toBe(false);
    expect(said.join('\n')).toMatch(
      /^waiting for worker 1 \(pid \d+\), orchestrator \(pid \d+\)\. Whatever still runs in \d+ ms will be killed$/m,
    );
    expect(said.join('\n')).toMatch(/^worker 1 did not end within 300 ms: SIGKILL to pid \d+$/m);
    expect(said).toContain('worker 1 was killed; its guardian ends its agents');
    expect(said.join('\n')).toMatch(/^orchestrator did not end within 200 ms: SIGKILL to pid \d+$/m);
    expect(said).toContain('state server closed');
  });
});

it('drains at the first signal, tells at the second, forces at the third', () => {
  const cli = scriptedProcess({ cwd: dir });
  let forced = 0;
  const signals = watchSignals(openSession(cli, {}), {
    boundMs: 30_000,
    waitingFor: () => ['worker 1 (pid 5)'],
    force: () => forced++,
  });
  signals.asked.addEventListener('abort', () => said.push(`asked: ${cli.written.stderr}`));
  try {
    cli.send('SIGINT');
    // A drawn progress is cleared before the line is written, not after.
    expect(said).toEqual(['asked: ']);
    expect([signals.isAsked(), signals.wasForced()]).toEqual([true, false]);
    cli.send('SIGTERM');
    cli.send('SIGINT');
    expect([signals.wasForced(), forced]).toEqual([true, 1]);
    expect(cli.written.stderr.split('\n').slice(0, 3)).toEqual([
      'SIGINT: draining. Running agents have 30.0 s to finish; then they are stopped with proof.',
      'Already draining: waiting for worker 1 (pid 5). A third signal kills them.',
      'Forcing: SIGKILL to worker 1 (pid 5).',
    ]);
  } finally {
    signals.release();
  }
});

it('says which program has the port', async () => {
  const server = createServer((_, response) => response.end('<html>'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await expect(checkPort('127.0.0.1', port, dataDir)).rejects.toThrow(
      `Port ${port} on 127.0.0.1 is in use by another program. Take another one: belay up --port ${port + 1}`,
    );
    await expect(checkPort('127.0.0.1', port, dataDir, 'npm start --')).rejects.toThrow(
      `Take another one: npm start -- --port ${port + 1}`,
    );
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
  await expect(checkPort('127.0.0.1', port, dataDir)).resolves.toBeUndefined();
  await expect(checkPort('127.0.0.1', 0, dataDir)).resolves.toBeUndefined();
});

it('lays the flags over the environment, and keeps BELAY_URL to the CLI', () => {
  const env = processEnvironment(
    { BELAY_URL: 'http://x', BELAY_WORKERS: '9', OTHER: '1' },
    { workers: 3, port: 0, dataDir: '/d' },
  );
  expect(env).toEqual({ OTHER: '1', BELAY_WORKERS: '3', BELAY_HTTP_PORT: '0', BELAY_DATA_DIR: '/d' });
  expect(readUpSettings(env)).toMatchObject({ workers: 3, httpPort: 0, dataDir: '/d' });
  expect(() => readUpSettings({ BELAY_WORKERS: 'x' })).toThrow('BELAY_WORKERS');
});

it('shows a short banner without the token, and the next steps', () => {
  const facts = {
    url: 'http://127.0.0.1:7070',
    server: 'valkey 8.0.1 (path)',
    serverUrl: 'redis://127.0.0.1:6379',
    tokenAt: '.belay/token',
    workers: 2,
    logs: '.belay/logs',
    holding: [{ containment: 'cgroup', grade: 'kernel' }] as const,
  };
  expect(renderBanner(facts, createStyle(false))).toEqual([
    'Belay is up.',
    '  API      http://127.0.0.1:7070',
    '  token    .belay/token',
    '  state    valkey 8.0.1 (path) at redis://127.0.0.1:6379',
    '  workers  2 workers, logs in .belay/logs',
    '  stops    proved by the kernel (cgroup)',
  ]);
  const last = (holding: BannerFacts['holding']) =>
    renderBanner({ ...facts, holding }, createStyle(false)).at(-1);
  expect(last([{ containment: 'cgroup', grade: 'marks' }])).toBe(
    '  stops    proved by marks only (cgroup), which an agent can strip: docs/isolation.md',
  );
  expect(last([{ containment: 'descent', grade: 'kernel' }, { containment: 'marks' }])).toBe(
    '  stops    proved by marks only (descent and marks), which an agent can strip: docs/isolation.md',
  );
  expect(last(undefined)).toBe('  workers  2 workers, logs in .belay/logs');
  expect(renderNextSteps('belay', 'a.yaml')).toEqual([
    'In another terminal:',
    '  belay run a.yaml --watch   submit an execution and follow it',
    '  belay ps                   list executions',
    '  belay stop ID              stop one, with its receipt',
    '  belay kill --all           stop everything, with proof',
    'Ctrl-C here drains and stops.',
  ]);
});

it('keeps logs to their owner', async () => {
  const one = supervised('good');
  await one.start();
  await one.stop(5_000);
  expect(readFileSync(one.spec.logFile, 'utf8')).toBe('');
});
