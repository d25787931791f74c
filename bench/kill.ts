import { once } from 'node:events';
import { join } from 'node:path';
import type { BelayClient } from '#libs/client';
import type { AgentRecord, Receipt, Scope, StopReport } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import {
  median,
  pause,
  percentile,
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
import { makeMortals, type Mortal } from './support/mortals';

const WAIT_MS = 60_000;
/** The time between start and kill, so that the work of the start is over. */
const SETTLE_MS = 30;
/** The first rounds are not counted: code that runs for the first time is slow on both sides. */
const WARM_UP = 3;

/** One kill; milliseconds from just before the request. */
interface Sample {
  /** Each target's signal has taken effect. */
  readonly signalled: readonly number[];
  /** The client has the evidence for all of them. */
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
  /** The address of the bare HTTP front. */
  readonly front: string;
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
async function killOurs(
  { client, dir }: Contest,
  count: number,
  scope: (executionId: string) => Scope,
): Promise<OurSample> {
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
      : await client.kill({ scope: scope(execution.id) });
  const proved = performance.now() - asked;
  // The kill engages its default latch, as in normal use.
  if (receipt.latch !== undefined) await client.releaseLatch(receipt.latch.id, 'next round');
  if (!receipt.complete || receipt.totals.killed !== count)
    throw new Error(`the receipt names ${receipt.totals.killed} of ${count} as killed`);
  const died = await Promise.all(mortals.map(async (mortal) => mortal.died));
  return {
    signalled: died.map((at) => at - asked),
    proved,
    reports: receipt.targets.flatMap(({ report }) => report ?? []),
  };
}

/** Starts bare children in the killer's process. */
async function startBare(
  { killer, dir }: Contest,
  count: number,
): Promise<{ mortals: Mortal[]; pids: number[] }> {
  const mortals = makeMortals(dir, count);
  const started = within(WAIT_MS, 'the start of bare children', once(killer.process, 'message'));
  killer.process.send(mortals.map(({ command }) => command));
  const [pids] = (await started) as [number[]];
  await Promise.all(mortals.map(async ({ began }) => began));
  await pause(SETTLE_MS);
  return { mortals, pids };
}

const deathsSince = async (mortals: readonly Mortal[], asked: number): Promise<number[]> => {
  const died = await Promise.all(mortals.map(async (mortal) => mortal.died));
  return died.map((at) => at - asked);
};

/** A durable record and a message in one step, `kill(2)`, and a durable report of each exit. */
async function killBare(setting: Contest, count: number): Promise<Sample> {
  const { valkey, exits } = setting;
  const { mortals, pids } = await startBare(setting, count);
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
  return { signalled: await deathsSince(mortals, asked), proved };
}

/** The same over HTTP, through a process that does nothing else: the cost of a front alone. */
async function killBareOverHttp(setting: Contest, count: number): Promise<Sample> {
  const { mortals, pids } = await startBare(setting, count);
  const body = JSON.stringify(pids);
  const asked = performance.now();
  const answer = await within(WAIT_MS, 'the bare front', fetch(setting.front, { method: 'POST', body }));
  await answer.text();
  const proved = performance.now() - asked;
  if (!answer.ok) throw new Error('the bare front failed');
  return { signalled: await deathsSince(mortals, asked), proved };
}

/** In turn, ours first; the first rounds of each are dropped. */
async function contest(
  setting: Contest,
  count: number,
  rounds: number,
  warmUp: number,
  scope: (executionId: string) => Scope = (executionId) => ({ type: 'execution', executionId }),
) {
  const ours: OurSample[] = [];
  const bare: Sample[] = [];
  const front: Sample[] = [];
  for (let i = 0; i < rounds + warmUp; i++) {
    ours.push(await killOurs(setting, count, scope));
    bare.push(await killBare(setting, count));
    front.push(await killBareOverHttp(setting, count));
  }
  return { ours: ours.slice(warmUp), bare: bare.slice(warmUp), front: front.slice(warmUp) };
}

const signals = (samples: readonly Sample[]): number[] => samples.flatMap(({ signalled }) => signalled);
const lastSignals = (samples: readonly Sample[]): number[] =>
  samples.map(({ signalled }) => Math.max(...signalled));
const proofs = (samples: readonly Sample[]): number[] => samples.map(({ proved }) => proved);
const inWorker = (
  samples: readonly OurSample[],
  name: 'signalledAfterMs' | 'firstExitAfterMs' | 'provedAfterMs',
): number => round(median(samples.flatMap(({ reports }) => reports.flatMap((report) => report[name] ?? []))));

/** A fleet, the bare killer and its HTTP front, for as long as `work` runs. */
async function withContest<T>(
  concurrency: number,
  workers: number,
  work: (setting: Contest) => Promise<T>,
): Promise<T> {
  const fleet = await startBenchFleet(concurrency, workers);
  const dir = makeTempDir();
  const children: Child[] = [];
  try {
    const killer = await startChild(join(__dirname, 'support/bare-killer.js'), [fleet.url]);
    children.push(killer);
    const front = await startChild<{ url: string }>(join(__dirname, 'support/bare-front.js'), [fleet.url]);
    children.push(front);
    const exits = fleet.valkey.connections.create('subscriber');
    await exits.subscribe('bare-exits');
    return await work({ ...fleet, killer, exits, dir: dir.path, front: front.ready.url });
  } finally {
    for (const child of children) await endChild(child);
    await fleet.stop();
    dir.remove();
  }
}

/** Request over HTTP → signalled → proved, with the receipt, beside a bare remote kill and one over HTTP, in turn. */
export async function benchKill({ quick, least }: BenchOptions): Promise<BenchResult> {
  const crowd = least ? 6 : quick ? 20 : 100;
  return withContest(crowd / 2, 2, async (setting) => {
    const single = await contest(setting, 1, least ? 3 : quick ? 6 : 50, least ? 0 : WARM_UP);
    const many = await contest(setting, crowd, quick ? 1 : 4, quick ? 0 : 1);
    const http: number[] = [];
    for (let i = 0; i < (quick ? 20 : 100); i++) http.push(await timed(async () => setting.client.health()));
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
        ...spread('frontAskedToSignalled', signals(single.front)),
        ...spread('frontAskedToProved', proofs(single.front)),
        ...spread('crowdBareAskedToSignalled', signals(many.bare)),
        crowdBareAskedToLastSignalledMs: round(median(lastSignals(many.bare))),
        crowdBareAskedToProvedMs: round(median(proofs(many.bare))),
        ...spread('httpRoundTrip', http),
      },
      ratios: {
        askedToSignalled: ratio(median(signals(single.ours)), median(signals(single.bare))),
        askedToProved: ratio(median(proofs(single.ours)), median(proofs(single.bare))),
        askedToSignalledOverHttp: ratio(median(signals(single.ours)), median(signals(single.front))),
        askedToProvedOverHttp: ratio(median(proofs(single.ours)), median(proofs(single.front))),
        crowdAskedToLastSignalled: ratio(median(lastSignals(many.ours)), median(lastSignals(many.bare))),
        crowdAskedToProved: ratio(median(proofs(many.ours)), median(proofs(many.bare))),
      },
    };
  });
}

/** Kill-all of a fleet: 1,000 agents on 4 workers, beside the bare kill of as many children of one process. */
export async function benchKillAll({ quick, least }: BenchOptions): Promise<BenchResult> {
  const crowd = least ? 8 : quick ? 40 : 1_000;
  const workers = quick ? 2 : 4;
  return withContest(crowd / workers, workers, async (setting) => {
    const everything = (): Scope => ({ type: 'all' });
    const runs = await contest(setting, crowd, quick ? 1 : 3, 0, everything);
    const within1 = (samples: readonly Sample[], part: number) => round(percentile(signals(samples), part));
    return {
      name: 'kill-all',
      figures: {
        agents: crowd,
        workers,
        signalledMsP10: within1(runs.ours, 0.1),
        signalledMsP50: within1(runs.ours, 0.5),
        signalledMsP90: within1(runs.ours, 0.9),
        signalledMsP99: within1(runs.ours, 0.99),
        lastSignalledMs: round(median(lastSignals(runs.ours))),
        workerToProvedMsP50: inWorker(runs.ours, 'provedAfterMs'),
        provedMs: round(median(proofs(runs.ours))),
      },
      limits: {
        bareSignalledMsP10: within1(runs.bare, 0.1),
        bareSignalledMsP50: within1(runs.bare, 0.5),
        bareSignalledMsP90: within1(runs.bare, 0.9),
        bareSignalledMsP99: within1(runs.bare, 0.99),
        bareLastSignalledMs: round(median(lastSignals(runs.bare))),
        bareProvedMs: round(median(proofs(runs.bare))),
      },
      ratios: {
        lastSignalled: ratio(median(lastSignals(runs.ours)), median(lastSignals(runs.bare))),
        proved: ratio(median(proofs(runs.ours)), median(proofs(runs.bare))),
      },
    };
  });
}
