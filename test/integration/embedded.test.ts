import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { buildBelay, buildInMemoryBelay, type BelayOptions, type StopResult } from '../../apps/embedded/src';
import { startPrivateServer } from '../../apps/embedded/src/private-server';
import { eventually, NOISE_MS, processesWith, startFleet } from '../support/fleet';
import { placePerTest } from '../support/own-place';
import { FIXTURES, isAlive, procEntry, type ProcEntry } from '../support/proc';

/** The host's report of itself: its listeners since the start, and the calls on its process. */
const UNTOUCHED = { changed: [], calls: [], exitCode: null };
/** Short, so that a test need not wait long for a fence. */
const QUICK = { leaseTtlMs: 4_000, heartbeatMs: 300, graceMs: 300 };
const TOKEN = 'a-token-of-the-embedded-test';

interface Place {
  /** The folder for the temporary files of this test's hosts alone. */
  readonly tmp: string;
  readonly hosts: Host[];
  server?: ThrowawayServer;
}

const { here, it } = placePerTest<Place>(
  () => ({ tmp: mkdtempSync(join(tmpdir(), 'belay-emb-')), hosts: [] }),
  async ({ tmp, hosts, server }) => {
    for (const host of hosts) {
      host.kill('SIGKILL');
      await host.exited;
    }
    await server?.stop();
    rmSync(tmp, { recursive: true, force: true });
  },
);

interface Said {
  readonly [name: string]: unknown;
  readonly result?: StopResult;
  readonly ready?: string;
}

/** A host's process, and its output. */
interface Host {
  readonly pid: number;
  /** Exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  readonly errors: () => string;
  /** The line with `name`, once it is printed. */
  said(name: string, boundMs?: number): Promise<Said>;
  /** Every line so far with `name`. */
  all(name: string): Said[];
  endInput(text?: string): void;
  kill(signal: NodeJS.Signals): void;
}

type HostOptions = Partial<BelayOptions> & { readonly fail?: readonly object[] };

function startHost(life: string, options: HostOptions = {}): Host {
  const child = spawn(
    process.execPath,
    [join(FIXTURES, 'embedded-host.cjs'), life, JSON.stringify(options)],
    { env: { ...process.env, TMPDIR: here().tmp }, stdio: ['pipe', 'pipe', 'pipe'] },
  );
  const lines: Said[] = [];
  let errors = '';
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(JSON.parse(line) as Said));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const host: Host = {
    pid: child.pid ?? 0,
    exited: new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal ?? ''))),
    errors: () => errors,
    said: async (name, boundMs = 90_000) =>
      eventually(
        async () => {
          const found = lines.find((line) => name in line);
          if (found === undefined && child.exitCode !== null)
            throw new Error(`the host ended without saying "${name}": ${JSON.stringify(lines)} ${errors}`);
          return found;
        },
        `the host saying "${name}" ${errors}`,
        boundMs,
      ),
    all: (name) => lines.filter((line) => name in line),
    endInput: (text = '') => child.stdin.end(text),
    kill: (signal) => child.kill(signal),
  };
  here().hosts.push(host);
  return host;
}

/** Every live process below `pid`: guardian, watcher, server, agents. */
function below(pid: number): ProcEntry[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => procEntry(Number(name)) ?? []);
  const found = new Map<number, ProcEntry>();
  const add = (parent: number): void => {
    for (const entry of all)
      if (entry.parent === parent && isAlive(entry.pid) && !found.has(entry.pid)) {
        found.set(entry.pid, entry);
        add(entry.pid);
      }
  };
  add(pid);
  return [...found.values()];
}

/** The processes that still live. A pid alone may be reused by now. */
function left(processes: readonly ProcEntry[]): ProcEntry[] {
  return processes.filter(({ pid, startTime }) => isAlive(pid) && procEntry(pid)?.startTime === startTime);
}

async function expectGone(processes: readonly ProcEntry[], boundMs = 60_000): Promise<void> {
  await eventually(async () => left(processes).length === 0, 'the end of every process of the host', boundMs);
}

/** A server for hosts, their options for it, and a data directory of their own outside of `tmp`. */
async function withServer(): Promise<{ url: string; dataDir: string }> {
  const server = await startThrowawayServer();
  here().server = server;
  return { url: server.url, dataDir: join(server.dir, 'belay') };
}

for (const kind of ['in memory', 'with a Valkey'] as const) {
  const place = async (): Promise<HostOptions> => (kind === 'in memory' ? {} : withServer());

  it(`${kind}: R48 R18 runs and stops work, touches nothing of the process, and leaves the host to end by itself`, async () => {
    const host = startHost('whole', {
      ...(await place()),
      ...QUICK,
      http: { port: 0, token: TOKEN },
    });
    const running = await host.said('running');
    const processes = below(host.pid);
    expect(running).toMatchObject({ ...UNTOUCHED, state: 'completed', nodes: { completed: 2 } });
    // At least its guardian, and the agents.
    expect(processes.length).toBeGreaterThanOrEqual(3);
    expect((await fetch(`${String(running['url'])}/health/ready`)).status).toBe(200);
    expect(await host.said('receipt')).toMatchObject({
      receipt: { complete: true, totals: { total: 1, killed: 1 }, missing: [] },
      stopped: 'stopped',
    });
    expect(await host.said('result')).toEqual({
      result: { forced: false, stopped: [], unfinished: [] },
      ...UNTOUCHED,
    });
    host.endInput('mine');
    // Its input and its logger are untouched, its exit code is its own, and nothing keeps it alive.
    expect(await host.said('again')).toEqual({
      again: 'DRAINING',
      logged: ['running', 'stopped'],
      input: 'mine',
    });
    const saidAt = performance.now();
    expect(await host.exited).toBe(7);
    expect(performance.now() - saidAt).toBeLessThan(3_000 + NOISE_MS);
    expect(host.errors()).toBe('');
    expect(left(processes)).toEqual([]);
    expect(readdirSync(here().tmp)).toEqual([]);
    const { server } = here();
    if (server !== undefined) expect(readdirSync(join(server.dir, 'belay', 'workers'))).toEqual([]);
  });

  it(`${kind}: R48 R17 kill -9 of the host: its agents die, and no process of it is left`, async () => {
    const host = startHost('stay', { ...(await place()), ...QUICK });
    const { ready } = await host.said('ready');
    const processes = below(host.pid);
    expect(processesWith(String(ready)).length).toBeGreaterThanOrEqual(2);
    host.kill('SIGKILL');
    expect(await host.exited).toBe('SIGKILL');
    await expectGone(processes);
    await eventually(async () => processesWith(String(ready)).length === 0, 'the end of its agents');
    await eventually(async () => readdirSync(here().tmp).length === 0, 'the end of its temporary files');
  });

  it(`${kind}: R48 kill -9 of the server: the host is told and lives, its agents end, and it still ends by itself`, async () => {
    const host = startHost('until', { ...(await place()), ...QUICK });
    const { ready } = await host.said('ready');
    const processes = below(host.pid);
    const { server } = here();
    if (server !== undefined) await server.kill9();
    else
      process.kill(
        processes.find(({ command }) => /^(valkey|redis)-server/.test(command))?.pid ?? 0,
        'SIGKILL',
      );
    if (server === undefined) expect(await host.said('notice')).toEqual({ notice: { kind: 'server-ended' } });
    else expect(await host.said('notice')).toEqual({ notice: { kind: 'contact-lost', agents: 1 } });
    await eventually(async () => processesWith(String(ready)).length === 0, 'the end of its agents');
    expect(isAlive(host.pid)).toBe(true);
    host.endInput();
    expect(await host.said('asked')).toMatchObject(UNTOUCHED);
    // Bounded, step by step, although no step reaches the server; and the steps are named.
    const result = await host.said('result', 90_000);
    expect(result).toMatchObject({ ...UNTOUCHED, result: { forced: true } });
    expect(result.result?.unfinished).toContain('worker: announce');
    expect(await host.exited).toBe(7);
    expect(host.errors()).toBe('');
    await expectGone(processes);
    expect(readdirSync(here().tmp)).toEqual([]);
  });

  it(`${kind}: R48 R46 with handleSignals SIGTERM drains Belay, takes its listeners off again, and the host goes on`, async () => {
    const host = startHost('stay', { ...(await place()), ...QUICK, stopTimeoutMs: 0, handleSignals: true });
    const { changed } = await host.said('ready');
    expect(changed).toEqual(['SIGINT', 'SIGTERM']);
    const processes = below(host.pid);
    host.kill('SIGTERM');
    host.kill('SIGINT');
    expect(await host.said('stopped')).toEqual({ stopped: true, ...UNTOUCHED });
    expect(await host.exited).toBe(7);
    await expectGone(processes);
    expect(readdirSync(here().tmp)).toEqual([]);
  });

  it(`${kind}: R48 two in one process do not disturb each other`, async () => {
    const host = startHost('two', { ...(await place()), ...QUICK });
    expect(await host.said('state')).toMatchObject({
      result: { forced: true, unfinished: [] },
      state: 'running',
      agent: 'running',
    });
    expect(await host.said('after')).toEqual({ after: 'completed' });
    expect(await host.said('changed')).toMatchObject({ ...UNTOUCHED, result: { unfinished: [] } });
    expect(await host.exited).toBe(7);
    expect(host.errors()).toBe('');
    expect(readdirSync(here().tmp)).toEqual([]);
  });
}

it('R48 without handleSignals a signal is the host’s: it dies by it, and its agents with it', async () => {
  const host = startHost('stay', QUICK);
  const { ready, changed } = await host.said('ready');
  expect(changed).toEqual([]);
  const processes = below(host.pid);
  host.kill('SIGTERM');
  expect(await host.exited).toBe('SIGTERM');
  await expectGone(processes);
  expect(processesWith(String(ready))).toEqual([]);
});

it('R48 R26 a host whose lease was taken is told, lives on without its worker, and its agents are dead', async () => {
  const fleet = await startFleet({
    workers: 0,
    env: { BELAY_LEASE_TTL_MS: '4000', BELAY_HEARTBEAT_MS: '300', BELAY_GRACE_MS: '300' },
  });
  try {
    const host = startHost('until', {
      url: fleet.server.url,
      dataDir: join(fleet.dir, 'host'),
      shards: 2,
      ...QUICK,
    });
    const { ready, workerId } = await host.said('ready');
    host.kill('SIGSTOP');
    await eventually(
      async () => (await fleet.life.workers.get(String(workerId))).state === 'stopped',
      'another taking its lease',
      90_000,
    );
    host.kill('SIGCONT');
    const lost = { kind: 'lease-lost', workerId };
    await eventually(
      async () => host.all('notice').some(({ notice }) => JSON.stringify(notice) === JSON.stringify(lost)),
      'the host being told',
    );
    await eventually(async () => processesWith(String(ready)).length === 0, 'the end of its agents');
    expect(isAlive(host.pid)).toBe(true);
    host.endInput();
    expect(await host.said('asked')).toMatchObject(UNTOUCHED);
    expect(await host.said('result', 60_000)).toMatchObject(UNTOUCHED);
    expect(await host.exited).toBe(7);
    expect(host.errors()).toBe('');
  } finally {
    for (const host of here().hosts) host.kill('SIGKILL');
    await fleet.stop();
  }
});

it('R48 nothing but the programs touches the process: no signal, exit, exit code, stream or console', () => {
  const root = join(__dirname, '../..');
  /** The files that are programs of their own, and those that make a service into one. */
  const mayTouch = [
    'apps/cli/',
    'apps/worker/src/main.ts',
    'apps/orchestrator/src/main.ts',
    'apps/embedded/src/handlers/handler-main.ts',
    'libs/service/src/process-log.ts',
    'libs/service/src/run-as-process.ts',
    'libs/service/src/stop-signals.ts',
    'libs/spawner/src/process/guardian-main.ts',
  ];
  const touches =
    /\bprocess\s*\??\.\s*(on|once|off|addListener|prepend\w+|exit|exitCode|reallyExit|abort|send|disconnect|stdin|stdout|stderr|chdir|umask|title)\b|\bconsole\s*\./;
  const withoutComments = (source: string): string => source.replaceAll(/^\s*(\*|\/\/|\/\*).*$/gm, '');
  const found = ['apps', 'libs'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map((path) => `${folder}/${path}`)
      .filter(
        (path) => path.endsWith('.ts') && !path.endsWith('.spec.ts') && /^[^/]+\/[^/]+\/src\//.test(path),
      )
      .filter((path) => touches.test(withoutComments(readFileSync(join(root, path), 'utf8')))),
  );
  expect(found.length).toBeGreaterThan(mayTouch.length - 1);
  expect(found.filter((path) => !mayTouch.some((allowed) => path.startsWith(allowed)))).toEqual([]);
});

it('R48 R66 options that are not valid are told all at once, by the names they were given', () => {
  const wrong = {
    url: 'http://127.0.0.1',
    graceMs: -1,
    worker: { concurrency: 0, pools: [] },
    http: { port: 99_999 },
    leaseTtl: 4_000,
  };
  const build = (): unknown => buildBelay(wrong as never);
  expect(build).toThrow(expect.objectContaining({ code: 'INVALID_SETTINGS' }));
  const paths = (make: () => unknown): string[] => {
    try {
      make();
    } catch (error) {
      return (error as { problems: { path: string }[] }).problems.map(({ path }) => path).sort();
    }
    return [];
  };
  expect(paths(build)).toEqual([
    'graceMs',
    'http.port',
    'http.token',
    'leaseTtl',
    'url',
    'worker.concurrency',
    'worker.pools',
  ]);
  expect(build).toThrow(/leaseTtl: Belay has no such option; did you mean leaseTtlMs\?/);
  expect(paths(() => buildInMemoryBelay({ heartbeatMs: 60_000 }))).toEqual(['heartbeatMs']);
  expect(() => buildInMemoryBelay({ heartbeatMs: 60_000 })).toThrow(
    /lower heartbeatMs, or raise fenceAfterMs/,
  );
});

it('R48 where no server is found the error names the tried ways and the packages to install', async () => {
  const cacheDir = join(here().tmp, 'empty');
  const env = { ...process.env, BELAY_TEST_SERVER: '', PATH: '/nonexistent' };
  const failed = startPrivateServer(() => undefined, { cacheDir, env });
  await expect(failed).rejects.toMatchObject({
    code: 'SERVER_UNREACHABLE',
    message: expect.stringMatching(
      /no valkey-server or redis-server on PATH[^]*install valkey-server or redis-server/,
    ) as string,
  });
  await expect(failed).rejects.not.toThrow(/Docker|packages of/);
});

it('R48 R41 whatever fails, everything is given back, the error is typed, and the host ends by itself', async () => {
  const { url, dataDir } = await withServer();
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  // Its guardian exists by then, and its cgroup.
  const blocked = join(here().tmp, 'blocked');
  mkdirSync(blocked);
  writeFileSync(join(blocked, 'workers'), '');
  const host = startHost('failing', {
    url,
    dataDir,
    ...QUICK,
    fail: [
      { cgroupParent: '/nonexistent', containment: 'cgroup' },
      { http: { port, token: TOKEN } },
      { dataDir: blocked },
      { shards: 3 },
      { url: 'unix:///nonexistent/socket' },
    ],
  });
  // Each is a line with a code; the last one waits for the server.
  const exit = host.exited;
  const wrong = 'INVALID_SETTINGS';
  const codes = [wrong, wrong, wrong, 'SHARD_MISMATCH', 'SERVER_UNREACHABLE'];
  await eventually(async () => host.all('code').length >= 3, 'the third start failing', 90_000);
  const processes = below(host.pid);
  await eventually(async () => host.all('code').length === codes.length, 'every start failing', 90_000);
  expect(host.all('code')).toEqual(
    codes.map((code) => expect.objectContaining({ code, state: 'idle', ...UNTOUCHED }) as object),
  );
  for (const [at, path] of ['Containment "cgroup"', 'http.port', 'dataDir'].entries())
    expect(host.all('code')[at]?.['message']).toContain(path);
  expect(await exit).toBe(7);
  expect(host.errors()).toBe('');
  taken.close();
  expect(processes).toEqual([]);
  expect(readdirSync(here().tmp)).toEqual(['blocked']);
  expect(readdirSync(join(blocked, 'hosts'))).toEqual([]);
});

it('R48 R41 one that failed for want of its server starts once the server is there', async () => {
  const options = await withServer();
  await here().server?.kill9();
  const belay = buildBelay({ ...options, ...QUICK });
  await expect(belay.start()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  expect(belay.state).toBe('idle');
  expect(() => belay.lifecycle).toThrow(/is idle/);
  await here().server?.restart();
  await belay.start();
  expect(belay.state).toBe('running');
  expect(await belay.stop()).toEqual({ forced: false, stopped: [], unfinished: [] });
  await expect(belay.start()).rejects.toMatchObject({ code: 'DRAINING' });
});

it('R48 R41 a stop during the start lets it through, then drains', async () => {
  const belay = buildInMemoryBelay(QUICK);
  const starting = belay.start();
  const stopping = belay.stop();
  await expect(starting).resolves.toBeUndefined();
  expect(await stopping).toEqual({ forced: false, stopped: [], unfinished: [] });
  expect(belay.state).toBe('stopped');
});

it('R48 the example of docs/embedding.md is examples/embedded.cjs, and runs', async () => {
  const root = join(__dirname, '../..');
  const example = readFileSync(join(root, 'examples/embedded.cjs'), 'utf8');
  expect(readFileSync(join(root, 'docs/embedding.md'), 'utf8')).toContain(`\`\`\`js\n${example}\`\`\``);
  const child = spawn(process.execPath, [join(root, 'examples/embedded.cjs')], {
    env: { ...process.env, TMPDIR: here().tmp },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
  expect(said).toMatch(/^completed [^]*\{ forced: false, stopped: \[\], unfinished: \[\] \}\n$/);
  expect(readdirSync(here().tmp)).toEqual([]);
});
