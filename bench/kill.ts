import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient, type BelayClient } from '#libs/client';
import { startThrowawayServer, Valkey, type ThrowawayServer } from '#libs/valkey';
import { median, round, spread, type BenchOptions, type BenchResult } from './measure';

const TOKEN = 'bench-token-of-a-throwaway-fleet';
const READY_MS = 20_000;

async function start(
  entry: string,
  args: string[],
  env: Record<string, string>,
): Promise<{ child: ChildProcess; message: { url?: string } }> {
  const child = fork(entry, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    detached: true,
  });
  const [message] = (await once(child, 'message', { signal: AbortSignal.timeout(READY_MS) })) as [
    { url?: string },
  ];
  return { child, message };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  await exited;
}

/** Dead or a zombie: what its parent has yet to reap runs no more. */
function isDead(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return /^[ZX]$/.test(stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '');
  } catch {
    return true;
  }
}

/** When the last of them is dead, seen from here: one clock for Belay and for the limit. */
async function whenDead(pids: readonly number[], timeoutMs = 30_000): Promise<number> {
  const deadline = performance.now() + timeoutMs;
  let left = [...pids];
  for (;;) {
    left = left.filter((pid) => !isDead(pid));
    const now = performance.now();
    if (left.length === 0) return now;
    if (now > deadline) throw new Error(`${left.length} processes outlived ${timeoutMs} ms`);
    await new Promise((next) => setImmediate(next));
  }
}

async function runningPids(client: BelayClient, executionId: string, count: number): Promise<number[]> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const { items } = await client.agents({ executionId, state: ['running'], limit: 1_000 });
    const pids = items.map((agent) => agent.pid).filter((pid) => pid !== undefined);
    if (pids.length === count) return pids;
    if (performance.now() > deadline) throw new Error(`${pids.length} of ${count} agents ran after a minute`);
    await new Promise((next) => setTimeout(next, 10));
  }
}

interface Sample {
  readonly deadMs: number;
  readonly provedMs: number;
}

async function killOurs(client: BelayClient, count: number): Promise<Sample> {
  const nodes = Array.from({ length: count }, (_, i) => ({
    id: `n${i}`,
    run: { command: ['sleep', '600'] },
  }));
  const { execution } = await client.createExecution({ name: 'bench', nodes });
  const pids = await runningPids(client, execution.id, count);
  const asked = performance.now();
  const dead = whenDead(pids);
  const stop = await client.stop(execution.id);
  const proved = performance.now();
  if (stop.receipt?.totals.killed !== count)
    throw new Error(`the receipt names ${stop.receipt?.totals.killed} of ${count}`);
  return { deadMs: (await dead) - asked, provedMs: proved - asked };
}

async function killBare(valkey: Valkey, killer: ChildProcess, count: number): Promise<number> {
  killer.send(count);
  const [pids] = (await once(killer, 'message')) as [number[]];
  const asked = performance.now();
  const dead = whenDead(pids);
  // The durable record first, as an order is: then the message that names whom to kill.
  await valkey.redis
    .multi()
    .hset('bare:order', 'pids', JSON.stringify(pids))
    .xadd('bare:orders', 'MAXLEN', '~', 1_000, '*', 'o', '1')
    .exec();
  await valkey.redis.publish('bare-doorbell', JSON.stringify(pids));
  return (await dead) - asked;
}

/** Asked over HTTP → dead (seen in /proc from here) → proved (the answer with its receipt), beside a bare remote kill. */
export async function benchKill({ quick }: BenchOptions): Promise<BenchResult> {
  const rounds = quick ? 8 : 50;
  const crowd = quick ? 20 : 100;
  const server: ThrowawayServer = await startThrowawayServer();
  const dir = mkdtempSync(join(tmpdir(), 'belay-bench-'));
  const valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 2 }).open();
  const env = {
    BELAY_VALKEY_URL: server.url,
    BELAY_DATA_DIR: dir,
    BELAY_TOKEN: TOKEN,
    BELAY_HTTP_PORT: '0',
    BELAY_SHARDS: '2',
    BELAY_WORKER_CONCURRENCY: '64',
    BELAY_LOG_LEVEL: 'error',
  };
  const apps = resolve(__dirname, '../apps');
  const children: ChildProcess[] = [];
  try {
    const orchestrator = await start(join(apps, 'orchestrator/src/main.js'), [], env);
    children.push(orchestrator.child);
    for (let i = 0; i < 2; i++) children.push((await start(join(apps, 'worker/src/main.js'), [], env)).child);
    const killer = (await start(join(__dirname, 'bare-killer.js'), [server.url], {})).child;
    children.push(killer);
    const client = createClient({ url: orchestrator.message.url ?? '', token: TOKEN });
    const ours: Sample[] = [];
    const bare: number[] = [];
    for (let i = 0; i < rounds; i++) {
      ours.push(await killOurs(client, 1));
      bare.push(await killBare(valkey, killer, 1));
    }
    const crowdOurs = await killOurs(client, crowd);
    const crowdBare = await killBare(valkey, killer, crowd);
    const dead = ours.map((sample) => sample.deadMs);
    const proved = ours.map((sample) => sample.provedMs);
    return {
      name: 'kill',
      figures: {
        ...spread('askedToDead', dead),
        ...spread('askedToProved', proved),
        crowd,
        crowdAskedToLastDeadMs: round(crowdOurs.deadMs),
        crowdAskedToProvedMs: round(crowdOurs.provedMs),
      },
      limits: { ...spread('bareAskedToDead', bare), crowdBareAskedToLastDeadMs: round(crowdBare) },
      ratios: {
        askedToDead: round(median(dead) / median(bare)),
        askedToProved: round(median(proved) / median(bare)),
        crowdAskedToLastDead: round(crowdOurs.deadMs / crowdBare),
      },
    };
  } finally {
    await Promise.all(children.map(end));
    valkey.close();
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
