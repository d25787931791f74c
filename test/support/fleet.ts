import { fork, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createClient, type BelayClient } from '#libs/client';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer, type ThrowawayServerOptions } from '#libs/local-server';
import { LifecycleService } from '#libs/lifecycle';

import { until } from './wait';

export { eventually, NOISE_MS } from './wait';

/** Beside the source, wherever this runs from: tests run the source, the fault campaign runs the build. */
const dist = ['../../dist', '../..']
  .map((path) => resolve(__dirname, path))
  .find((path) => existsSync(join(path, 'programs/worker.js'))) as string;
const TOKEN = 'test-token-of-a-throwaway-fleet';

/** One orchestrator or worker process of a test's fleet. */
export interface Member {
  readonly process: ChildProcess;
  readonly id: string;
  readonly url?: string;
  /** Resolves with the exit code (or the signal's name). */
  readonly exited: Promise<number | string>;
  readonly log: () => string;
}

/** A client that sends any spec: the tests ask the orchestrator what is valid. */
export type LooseClient = Omit<BelayClient, 'createExecution' | 'createAgent'> & {
  createExecution(
    spec: unknown,
    options?: Parameters<BelayClient['createExecution']>[1],
  ): ReturnType<BelayClient['createExecution']>;
  createAgent(
    spec: unknown,
    options?: Parameters<BelayClient['createAgent']>[1],
  ): ReturnType<BelayClient['createAgent']>;
};

/** A real fleet: a server, orchestrators and workers as processes of their own, and a client. */
export interface Fleet {
  readonly server: ThrowawayServer;
  readonly client: LooseClient;
  readonly token: string;
  readonly dir: string;
  readonly orchestrators: Member[];
  readonly workers: Member[];
  /** Reads the store directly, as no user would, to compare answers with the stored records. */
  readonly life: LifecycleService;
  /** @param launcher replaces the fleet's. */
  addWorker(env?: Record<string, string>, launcher?: readonly string[]): Promise<Member>;
  addOrchestrator(env?: Record<string, string>): Promise<Member>;
  /** Drains all, ends the server, and fails when a process of the fleet is left. */
  stop(): Promise<void>;
}

function startMember(
  app: 'orchestrator' | 'worker',
  env: Record<string, string>,
  launcher: readonly string[] = [],
): Promise<Member> {
  const [execPath = '', ...execArgv] = launcher.concat(process.execPath);
  const child = fork(join(dist, `programs/${app}.js`), [], {
    env: {
      // A plain PATH: a folder in it that this user may not read turns ENOENT into EACCES.
      PATH: `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
      HOME: process.env['HOME'],
      BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'],
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
    execPath,
    execArgv,
  });
  let log = '';
  child.stdout?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const exited = new Promise<number | string>((done) =>
    child.once('exit', (code, signal) => done(code ?? signal ?? '')),
  );
  return new Promise((ready, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${app} was not ready within 60 s:\n${log}`));
    }, 60_000);
    child.once('exit', () => {
      clearTimeout(timer);
      reject(new Error(`${app} ended before it was ready:\n${log}`));
    });
    child.once('message', (message: { workerId?: string; url?: string }) => {
      clearTimeout(timer);
      ready({
        process: child,
        id: message.workerId ?? app,
        ...(message.url === undefined ? {} : { url: message.url }),
        exited,
        log: () => log,
      });
    });
  });
}

/** A guardian writes its last file after its worker has gone, also while the folder is being emptied. */
async function remove(dir: string): Promise<void> {
  const gone = (): boolean => {
    rmSync(dir, { recursive: true, force: true });
    return true;
  };
  await until(gone, `the end of ${dir}`);
}

export async function startFleet(
  options: {
    workers?: number;
    /** Without orchestrators, `client` must not be used. */
    orchestrators?: 0 | 1;
    env?: Record<string, string>;
    server?: ThrowawayServerOptions;
    /** A state server of the caller's instead of a new one. */
    url?: string;
    /** A launcher for each member's command, which follows: it must become that command, not start it. */
    launcher?: readonly string[];
  } = {},
): Promise<Fleet> {
  const server = options.url === undefined ? await startThrowawayServer(options.server) : undefined;
  const url = options.url ?? server?.url ?? '';
  const dir = mkdtempSync(join(tmpdir(), 'belay-fleet-'));
  const base = {
    BELAY_VALKEY_URL: url,
    BELAY_DATA_DIR: dir,
    BELAY_TOKEN: TOKEN,
    BELAY_HTTP_PORT: '0',
    BELAY_LOG_LEVEL: 'info',
    BELAY_SHARDS: '2',
    BELAY_STOP_TIMEOUT_MS: '2000',
    ...options.env,
  };
  const orchestrators: Member[] = [];
  const workers: Member[] = [];
  const addOrchestrator = async (env = {}): Promise<Member> => {
    const member = await startMember('orchestrator', { ...base, ...env }, options.launcher);
    orchestrators.push(member);
    return member;
  };
  const addWorker = async (env = {}, launcher = options.launcher): Promise<Member> => {
    const member = await startMember('worker', { ...base, ...env }, launcher);
    workers.push(member);
    return member;
  };
  // A fleet whose start failed has no owner that would stop it.
  const undo = async (): Promise<void> => {
    for (const { process: child } of [...workers, ...orchestrators]) child.kill('SIGKILL');
    await Promise.all([...workers, ...orchestrators].map(async (member) => member.exited));
    await server?.stop();
    await remove(dir);
  };
  let first: Member | undefined;
  let valkey: Valkey;
  try {
    first = options.orchestrators === 0 ? undefined : await addOrchestrator();
    const begun = await Promise.allSettled(
      Array.from({ length: options.workers ?? 2 }, async () => addWorker()),
    );
    for (const one of begun) if (one.status === 'rejected') throw one.reason;
    valkey = await new Valkey({ url, keyPrefix: 'belay', shards: Number(base.BELAY_SHARDS) }).open();
  } catch (error) {
    await undo();
    throw error;
  }
  return {
    get server(): ThrowawayServer {
      if (server === undefined) throw new Error('this fleet has no server of its own');
      return server;
    },
    dir,
    token: TOKEN,
    client: createClient({ url: first?.url ?? 'http://127.0.0.1:1', token: TOKEN }),
    orchestrators,
    workers,
    life: new LifecycleService(valkey, { retentionMs: 60_000 }),
    addWorker,
    addOrchestrator,
    stop: async () => {
      for (const { process: child } of [...workers, ...orchestrators]) child.kill('SIGTERM');
      await Promise.all([...workers, ...orchestrators].map(async (member) => member.exited));
      valkey.close();
      await server?.stop();
      await remove(dir);
    },
  };
}

/** Processes with `text` in their environment (an execution's id, for example): pid, state and command, without zombies. */
export function processesWith(text: string): { pid: number; command: string }[] {
  const found: { pid: number; command: string }[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      if (!readFileSync(`/proc/${entry}/environ`, 'latin1').includes(text)) continue;
      if (/^State:\s+[ZX]/m.test(readFileSync(`/proc/${entry}/status`, 'latin1'))) continue;
      found.push({
        pid: Number(entry),
        command: readFileSync(`/proc/${entry}/cmdline`, 'latin1').replaceAll('\0', ' '),
      });
    } catch {
      // The process ended during the look.
    }
  }
  return found;
}
