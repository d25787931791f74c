import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentRecord } from '#libs/contracts';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  BelayModule,
  BelayRuntime,
  ExecutionManager,
  KillswitchService,
  LifecycleService,
  type BelayModuleOptions,
} from '../../apps/embedded/src/nest';
import { isAlive, procEntry } from '../support/proc';
import { eventually } from '../support/wait';

/** Processes of handlers that are started ahead of their attempts (ADR 0023), in an application. */
const FIXTURES = join(__dirname, '../fixtures/handlers');
const FILE = join(FIXTURES, 'waiting.module.cjs');
const { WaitingModule } = jest.requireActual<{ WaitingModule: Type }>(FILE);
const MAIN = join(__dirname, '../../dist/package/lib/handler-main.js');

let server: ThrowawayServer;
let dir: string;
let app: INestApplicationContext | undefined;
let tests = 0;
const pathOf = (what: string): string => join(dir, `${what}-${tests}`);

beforeAll(async () => {
  server = await startThrowawayServer();
  dir = mkdtempSync(join(tmpdir(), 'belay-waiting-'));
});
beforeEach(() => {
  tests++;
  mode('fine');
  process.env['WAITING_RECORD'] = pathOf('record');
  process.env['WAITING_MODE'] = pathOf('mode');
});
afterEach(async () => {
  await app?.close();
  app = undefined;
  for (const name of ['WAITING_RECORD', 'WAITING_MODE', 'WAITING_EXTRA']) delete process.env[name];
  // After each test, passed or failed, no process of an ended application still waits.
  expect(alive()).toEqual([]);
});
afterAll(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

function mode(word: string): void {
  writeFileSync(pathOf('mode'), word);
}

const optionsOf = (waiting: number | undefined): BelayModuleOptions => ({
  url: server.url,
  keyPrefix: `waiting${tests}`,
  queuePrefix: `waiting${tests}`,
  dataDir: pathOf('data'),
  workDir: dir,
  graceMs: 200,
  stopTimeoutMs: 300,
  handlers: {
    module: FILE,
    export: 'WaitingModule',
    env: ['WAITING_RECORD', 'WAITING_MODE', 'WAITING_EXTRA'],
    ...(waiting === undefined ? {} : { waiting }),
  },
});

async function start(waiting?: number): Promise<void> {
  const module = BelayModule.forRoot(optionsOf(waiting));
  const made = await Test.createTestingModule({ imports: [module, WaitingModule] }).compile();
  app = await made.init();
}

function the(): INestApplicationContext {
  if (app === undefined) throw new Error('the application was not started');
  return app;
}

const ready = async (count: number): Promise<void> =>
  void (await eventually(
    () => the().get(BelayRuntime).worker?.waiting === count,
    `${count} processes that wait`,
  ));

/** Processes of handlers of this file's module, with their handlers; waiting ones have none. */
function alive(): { pid: number; handler: string | undefined }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isAlive(Number(name)))
    .flatMap((name) => {
      try {
        const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').slice(0, -1);
        const at = argv.indexOf(FILE);
        return at > 0 ? [{ pid: Number(name), handler: argv[at + 2] }] : [];
      } catch {
        return []; // it ended meanwhile
      }
    });
}
const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
};
const childrenOf = (parent: number | undefined): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && procEntry(Number(name))?.parent === parent)
    .map(Number);
const waitingPids = (): number[] =>
  alive().flatMap(({ pid, handler }) => (handler === undefined ? [pid] : []));

/** Process ids by their messages. */
const told = (what: string): number[] =>
  existsSync(pathOf('record'))
    ? readFileSync(pathOf('record'), 'utf8')
        .split('\n')
        .flatMap((line) => (line.startsWith(`${what} `) ? [Number(line.split(' ')[1])] : []))
    : [];

async function submit(handler: string): Promise<string> {
  const spec = { name: handler, nodes: [{ id: 'only', maxAttempts: 1, run: { handler } }] };
  return (await the().get(ExecutionManager).submit(spec)).execution.id;
}

interface Counted {
  readonly runs: number;
  readonly left: string | null;
  readonly pid: number;
  readonly seen: number;
  readonly agentId: string;
  readonly extra: string | null;
}

async function attempt(): Promise<Counted> {
  const id = await submit('counts');
  const { state } = await the().get(BelayRuntime).waitForEnd(id, { timeoutMs: 60_000 });
  expect(state).toBe('completed');
  return (await the().get(LifecycleService).executions.node(id, 'only')).result as Counted;
}

const agentOf = async (executionId: string): Promise<AgentRecord> => {
  const { agents } = the().get(LifecycleService);
  return eventually(async () => {
    const [agent] = await agents.list({ executionId, states: ['running'] });
    return agent && agents.get(agent.id);
  }, 'the agent');
};

const kill = async (agentId: string, how: { mode?: 'immediate' } = {}) => {
  const killswitch = the().get(KillswitchService);
  const order = await killswitch.placeOrder({ scope: { type: 'agent', agentId }, by: 'test', ...how });
  return killswitch.waitForReceipt(order.id);
};

describe('R69 an attempt that is given a process which waited', () => {
  it('shares nothing with another: each has a process, and so a module, a counter and an environment of its own', async () => {
    await start();
    const pids: number[] = [];
    for (let i = 0; i < 3; i++) {
      await ready(1);
      const [waits] = waitingPids();
      const result = await attempt();
      expect(result).toMatchObject({ runs: 1, seen: 1, left: null, pid: waits });
      expect(result.agentId).toMatch(/^agt_/);
      pids.push(result.pid);
    }
    expect(new Set(pids).size).toBe(3);
  });

  it('R12 is killed with a complete receipt, with the processes that its module had started before there was an attempt', async () => {
    mode('forks');
    await start();
    await ready(1);
    const [waits] = waitingPids();
    const [forked] = told('forked');
    const id = await submit('begins');
    const agent = await agentOf(id);
    expect(agent.pid).toBe(waits);
    await eventually(() => told('began').length === 1, 'the handler');
    const receipt = await kill(agent.id);
    expect(receipt).toMatchObject({ complete: true, missing: [], totals: { total: 1, killed: 1 } });
    expect(receipt.targets[0]?.report).toMatchObject({ proved: true, escalated: true });
    expect([isAlive(waits ?? 0), isAlive(forked ?? 0)]).toEqual([false, false]);
  });

  it('R8 is killed by an order that comes before its process has read it: the handler never begins', async () => {
    await start();
    await ready(1);
    const [waits = 0] = waitingPids();
    process.kill(waits, 'SIGSTOP');
    const agent = await agentOf(await submit('begins'));
    expect(agent.pid).toBe(waits);
    expect(await kill(agent.id, { mode: 'immediate' })).toMatchObject({
      complete: true,
      totals: { total: 1, killed: 1 },
    });
    expect(isAlive(waits)).toBe(false);
    expect(told('began')).toEqual([]);
  });

  it('sees the variables of the application as they are now: one that was started with others is ended', async () => {
    await start();
    await ready(1);
    const [waits] = waitingPids();
    process.env['WAITING_EXTRA'] = 'new';
    expect(await attempt()).toMatchObject({ extra: 'new', runs: 1 });
    await eventually(() => !isAlive(waits ?? 0), 'the end of the old one');
  });
});

describe('R17 processes that wait', () => {
  it('end with a worker that gets kill -9, with all that their module has started', async () => {
    mode('forks');
    const child = fork(join(FIXTURES, 'waiting.app.cjs'), [JSON.stringify(optionsOf(2))], {
      env: { ...process.env },
      detached: true,
    });
    await once(child, 'message');
    const forked = await eventually(() => told('forked').length === 2 && told('forked'), 'both modules');
    expect(waitingPids()).toHaveLength(2);
    child.kill('SIGKILL');
    await eventually(() => alive().length === 0 && !forked.some(isAlive), 'the end of all of them');
  });

  it('end by themselves where worker and guardian get kill -9', async () => {
    const child = fork(join(FIXTURES, 'waiting.app.cjs'), [JSON.stringify(optionsOf(1))], {
      env: { ...process.env },
      detached: true,
    });
    await once(child, 'message');
    const [guardian = 0] = childrenOf(child.pid).filter((pid) => commandOf(pid).includes('guardian-main'));
    expect(waitingPids()).toHaveLength(1);
    // It sees its worker's end, and can do nothing.
    process.kill(guardian, 'SIGSTOP');
    child.kill('SIGKILL');
    process.kill(guardian, 'SIGKILL');
    await eventually(() => alive().length === 0, 'the end of the one that waited');
  });

  it('are as many as were asked for, and again after attempts; with 0 there are none', async () => {
    await start(2);
    await ready(2);
    expect(waitingPids()).toHaveLength(2);
    await Promise.all([attempt(), attempt(), attempt()]);
    await ready(2);
    expect(waitingPids()).toHaveLength(2);
    await the().close();
    expect(alive()).toEqual([]);
    tests++;
    await start(0);
    expect(await attempt()).toMatchObject({ runs: 1 });
    expect(alive()).toEqual([]);
  });

  it('whose module throws are started ever more rarely, and an attempt starts its own and tells why', async () => {
    mode('throws');
    await start();
    await eventually(() => told('made').length > 0, 'the first');
    const id = await submit('counts');
    await the().get(BelayRuntime).waitForEnd(id, { timeoutMs: 60_000 });
    const [agent] = await the().get(LifecycleService).agents.list({ executionId: id });
    const failed = await the()
      .get(LifecycleService)
      .agents.get(agent?.id ?? '');
    expect(failed).toMatchObject({ error: { code: 'HANDLER_FAILED', message: 'no connection' } });
    mode('fine');
    expect(await attempt()).toMatchObject({ runs: 1 });
    await ready(1);
  });

  it('whose module hangs are given no attempt, and end with the application', async () => {
    mode('hangs');
    await start();
    const hung = await eventually(() => told('made')[0], 'the one that hangs');
    mode('fine');
    expect(await attempt()).toMatchObject({ runs: 1 });
    expect(isAlive(hung)).toBe(true);
    await the().close();
    expect(isAlive(hung)).toBe(false);
  });

  it('come too late for an attempt whose time to start is over: the handler does not begin', async () => {
    const child = spawn(process.execPath, [MAIN, FILE, 'WaitingModule'], {
      env: { ...process.env, BELAY_COOKIE: 'c00kie' },
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    });
    let said = '';
    const messages = child.stdio[3];
    messages?.on('data', (text: Buffer) => (said += text.toString()));
    await eventually(() => said === 'c00kie ready\n', 'that it waits');
    const ended = once(child, 'close');
    child.stdin?.end(`${JSON.stringify({ args: ['begins'], env: {}, deadline: 1 })}\n{"input":null}`);
    expect(await ended).toEqual([126, null]);
    expect(said).toBe('c00kie ready\nc00kie late\n');
    expect(told('began')).toEqual([]);
  });

  it('end when their worker closes its end of the pipe, and no attempt has failed', async () => {
    const child = spawn(process.execPath, [MAIN, FILE, 'WaitingModule'], {
      env: { ...process.env, BELAY_COOKIE: 'c00kie' },
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stdio[3]?.on('data', (text: Buffer) => (said += text.toString()));
    await eventually(() => said === 'c00kie ready\n', 'that it waits');
    const ended = once(child, 'close');
    child.stdin?.end();
    expect(await ended).toEqual([0, null]);
    expect(said).toBe('c00kie ready\n');
  });
});
