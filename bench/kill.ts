import { once } from 'node:events';
import { join } from 'node:path';
import type { BelayClient } from '#libs/client';
import type { AgentRecord, Receipt, StopReport } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import {
  median,
  pause,
  ratio,
  round,
  spread,
  timed,
  within,
  type BenchOptions,
  type BenchResult,
} from './measure';
import { endChild, makeTempDir, startChild, type Child } from './support/child';
import { startBenchFleet } from './support/fleet';
import { loose, requestOf } from './support/graph';
import { makeMortals } from './support/mortals';

const WAIT_MS = 60_000;
/** Between the start and the kill, so that what the start left to do is done. */
const SETTLE_MS = 30;
/** First rounds, not counted: code that runs for the first time is slow on both sides. */
const WARM_UP = 3;

/** One kill; milliseconds from just before it was asked. */
interface Sample {
  /** Each target's signal has taken effect. */
  readonly signalled: readonly number[];
  /** The asker holds the evidence for all of them. */
  readonly proved: number;
}

interface OurSample extends Sample {
  readonly reports: readonly StopReport[];
}

interface Contest {
  readonly client: BelayClient;
  readonly valkey: Valkey;
  readonly killer: Child;
  readonly exits: Valkey['redis'];
  readonly dir: string;
}

async function running(client: BelayClient, executionId: string, count: number): Promise<AgentRecord[]> {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const { items } = await client.agents({ executionId, state: ['running'], limit: 1_000 });
    if (items.length === count) return [...items];
    if (performance.now() > deadline)
      throw new Error(`${items.length} of ${count} agents ran after a minute`);
    await pause(10);
  }
}

/** Over HTTP: one agent by its id, a crowd by its execution. */
async function killOurs({ client, dir }: Contest, count: number): Promise<OurSample> {
  const mortals = makeMortals(dir, count);
  const spec = requestOf(loose(count), (i) => mortals[i]?.command ?? []);
  const { execution } = await client.createExecution(spec);
  await Promise.all(mortals.map(async ({ began }) => began));
  const agents = await running(client, execution.id, count);
  await pause(SETTLE_MS);
  const asked = performance.now();
  const receipt: Receipt =
    count === 1
      ? await client.killAgent(agents[0]?.id ?? '')
      : await client.kill({ scope: { type: 'execution', executionId: execution.id } });
  const proved = performance.now() - asked;
  if (!receipt.complete || receipt.totals.killed !== count)
    throw new Error(`the receipt names ${receipt.totals.killed} of ${count} as killed`);
  const died = await Promise.all(mortals.map(async (mortal) => mortal.died));
  return {
    signalled: died.map((at) => at - asked),
    proved,
    reports: receipt.targets.flatMap(({ report }) => report ?? []),
  };
}

/** A durable record and a message in one step, `kill(2)`, and a durable report of each exit. */
async function killBare({ valkey, killer, exits, dir }: Contest, count: number): Promise<Sample> {
  const mortals = makeMortals(dir, count);
  const started = within(WAIT_MS, 'the start of bare children', once(killer.process, 'message'));
  killer.process.send(mortals.map(({ command }) => command));
  const [pids] = (await started) as [number[]];
  await Promise.all(mortals.map(async ({ began }) => began));
  await pause(SETTLE_MS);
  const left = new Set(pids);
  const reported = new Promise<number>((resolve) => {
    const take = (_channel: string, pid: string): void => {
      left.delete(Number(pid));
      if (left.size > 0) return;
      exits.off('message', take);
      resolve(performance.now());
    };
    exits.on('message', take);
  });
  const names = JSON.stringify(pids);
  const asked = performance.now();
  await valkey.redis
    .multi()
    .hset('bare:order', 'pids', names)
    .xadd('bare:orders', 'MAXLEN', '~', 1_000, '*', 'o', names)
    .publish('bare-doorbell', names)
    .exec();
  const proved = (await within(WAIT_MS, 'the report of bare exits', reported)) - asked;
  const died = await Promise.all(mortals.map(async (mortal) => mortal.died));
  return { signalled: died.map((at) => at - asked), proved };
}

/** Turn about, ours first; the first rounds of each are dropped. */
async function contest(setting: Contest, count: number, rounds: number, warmUp: number) {
  const ours: OurSample[] = [];
  const bare: Sample[] = [];
  for (let i = 0; i < rounds + warmUp; i++) {
    ours.push(await killOurs(setting, count));
    bare.push(await killBare(setting, count));
  }
  return { ours: ours.slice(warmUp), bare: bare.slice(warmUp) };
}

const signals = (samples: readonly Sample[]): number[] => samples.flatMap(({ signalled }) => signalled);
const lastSignals = (samples: readonly Sample[]): number[] =>
  samples.map(({ signalled }) => Math.max(...signalled));
const proofs = (samples: readonly Sample[]): number[] => samples.map(({ proved }) => proved);
const inWorker = (
  samples: readonly OurSample[],
  name: 'signalledAfterMs' | 'firstExitAfterMs' | 'provedAfterMs',
): number => round(median(samples.flatMap(({ reports }) => reports.flatMap((report) => report[name] ?? []))));

/** Asked over HTTP → signalled → proved, receipt in hand, beside a bare remote kill, in turn. */
export async function benchKill({ quick }: BenchOptions): Promise<BenchResult> {
  const crowd = quick ? 20 : 100;
  const fleet = await startBenchFleet(crowd / 2);
  const dir = makeTempDir();
  let killer: Child | undefined;
  try {
    killer = await startChild(join(__dirname, 'support/bare-killer.js'), [fleet.url]);
    const exits = fleet.valkey.connections.create('subscriber');
    await exits.subscribe('bare-exits');
    const setting: Contest = { ...fleet, killer, exits, dir: dir.path };
    const single = await contest(setting, 1, quick ? 6 : 50, WARM_UP);
    const many = await contest(setting, crowd, quick ? 1 : 4, quick ? 0 : 1);
    const http: number[] = [];
    for (let i = 0; i < (quick ? 20 : 100); i++) http.push(await timed(async () => fleet.client.health()));
    return {
      name: 'kill',
      figures: {
        ...spread('askedToSignalled', signals(single.ours)),
        ...spread('askedToProved', proofs(single.ours)),
        workerToSignalledMsP50: inWorker(single.ours, 'signalledAfterMs'),
        workerToExitMsP50: inWorker(single.ours, 'firstExitAfterMs'),
        workerToProvedMsP50: inWorker(single.ours, 'provedAfterMs'),
        crowd,
        ...spread('crowdAskedToSignalled', signals(many.ours)),
        crowdAskedToLastSignalledMs: round(median(lastSignals(many.ours))),
        crowdAskedToProvedMs: round(median(proofs(many.ours))),
      },
      limits: {
        ...spread('bareAskedToSignalled', signals(single.bare)),
        ...spread('bareAskedToProved', proofs(single.bare)),
        ...spread('crowdBareAskedToSignalled', signals(many.bare)),
        crowdBareAskedToLastSignalledMs: round(median(lastSignals(many.bare))),
        crowdBareAskedToProvedMs: round(median(proofs(many.bare))),
        ...spread('httpRoundTrip', http),
      },
      ratios: {
        askedToSignalled: ratio(median(signals(single.ours)), median(signals(single.bare))),
        askedToProved: ratio(median(proofs(single.ours)), median(proofs(single.bare))),
        crowdAskedToLastSignalled: ratio(median(lastSignals(many.ours)), median(lastSignals(many.bare))),
        crowdAskedToProved: ratio(median(proofs(many.ours)), median(proofs(many.bare))),
      },
    };
  } finally {
    if (killer !== undefined) await endChild(killer);
    await fleet.stop();
    dir.remove();
  }
}
