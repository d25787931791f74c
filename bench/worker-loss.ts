import { join } from 'node:path';
import {
  median,
  pause,
  percentile,
  ratio,
  round,
  spread,
  type BenchOptions,
  type BenchResult,
} from './measure';
import { endChild, makeTempDir, startChild } from './support/child';
import { startBenchFleet } from './support/fleet';
import { loose, requestOf } from './support/graph';
import { makeMortals, type Mortal } from './support/mortals';

const LEASE_MS = 4_000;
const SETTINGS = {
  BELAY_LEASE_TTL_MS: String(LEASE_MS),
  BELAY_HEARTBEAT_MS: '300',
  BELAY_GRACE_MS: '300',
};
/** The time between start and kill, so that the work of the start is over. */
const SETTLE_MS = 300;
/** A shell and a child of its own, both with the pipe of their attempt: the first argument's, or the second's. */
const TREE = '[ "${BELAY_ATTEMPT:-1}" = 1 ] || shift; exec 9>"$1"; echo >&9; sleep 600 & sleep 600; wait';
const treeOf = (...pipes: readonly Mortal[]): string[] => [
  '/bin/sh',
  '-c',
  TREE,
  'sh',
  ...pipes.map(({ path }) => path),
];

interface Sample {
  /** When the last process of each tree was gone. Milliseconds from just before the kill. */
  readonly dead: readonly number[];
  /** When the next attempt of each node ran. */
  readonly elsewhere: readonly number[];
}

/** Kills the worker that has all of them; two others are ready. */
async function loseOurs(count: number): Promise<Sample> {
  const fleet = await startBenchFleet(count, 0, SETTINGS);
  const dir = makeTempDir();
  try {
    const victim = await fleet.addWorker();
    const firsts = makeMortals(dir.path, count);
    const seconds = makeMortals(dir.path, count);
    const { name, nodes } = requestOf(loose(count), (i) =>
      treeOf(...[firsts[i], seconds[i]].flatMap((one) => one ?? [])),
    );
    const retried = nodes.map((node) => ({
      ...node,
      maxAttempts: 2,
      backoff: { type: 'fixed' as const, delayMs: 0 },
    }));
    const { execution } = await fleet.client.createExecution({ name, nodes: retried });
    await Promise.all(firsts.map(async ({ began }) => began));
    await Promise.all([fleet.addWorker(), fleet.addWorker()]);
    await pause(SETTLE_MS);
    const killed = performance.now();
    victim.process.kill('SIGKILL');
    const begin = async ({ began }: Mortal): Promise<number> => {
      await began;
      return performance.now();
    };
    const [dead, began] = await Promise.all([
      Promise.all(firsts.map(async ({ died }) => died)),
      Promise.all(seconds.map(begin)),
    ]);
    const copies = began.filter((at, i) => at < (dead[i] ?? Number.POSITIVE_INFINITY)).length;
    if (copies > 0) throw new Error(`${copies} of ${count} nodes ran twice at once`);
    await fleet.client.stop(execution.id);
    await Promise.all(seconds.map(async ({ died }) => died));
    return { dead: dead.map((at) => at - killed), elsewhere: began.map((at) => at - killed) };
  } finally {
    await fleet.stop();
    dir.remove();
  }
}

/** The limit: the same trees, under a process that kills their groups when its channel ends. */
async function loseBare(count: number): Promise<readonly number[]> {
  const dir = makeTempDir();
  const guardian = await startChild(join(__dirname, 'support/bare-guardian.js'));
  try {
    const mortals = makeMortals(dir.path, count);
    guardian.process.send(mortals.map((mortal) => treeOf(mortal)));
    await Promise.all(mortals.map(async ({ began }) => began));
    await pause(SETTLE_MS);
    const lost = performance.now();
    guardian.process.disconnect();
    const died = await Promise.all(mortals.map(async (mortal) => mortal.died));
    return died.map((at) => at - lost);
  } finally {
    await endChild(guardian);
    dir.remove();
  }
}

/**
 * kill -9 of a worker with 50 trees: the time until each is dead, and until each node runs elsewhere; beside bare trees, in
 * turn.
 */
export async function benchWorkerLoss({ quick, least }: BenchOptions): Promise<BenchResult> {
  const agents = least ? 2 : quick ? 8 : 50;
  const ours: Sample[] = [];
  const bare: number[][] = [];
  for (let i = 0; i < (quick ? 1 : 5); i++) {
    ours.push(await loseOurs(agents));
    bare.push([...(await loseBare(agents))]);
  }
  const dead = ours.flatMap((sample) => sample.dead);
  const elsewhere = ours.flatMap((sample) => sample.elsewhere);
  const last = round(median(ours.map((sample) => Math.max(...sample.dead))));
  const bareLast = round(median(bare.map((died) => Math.max(...died))));
  return {
    name: 'worker-loss',
    figures: {
      agents,
      rounds: ours.length,
      ...spread('killedToTreeDead', dead),
      killedToLastTreeDeadMs: last,
      ...spread('killedToElsewhere', elsewhere),
      killedToElsewhereMsMax: round(percentile(elsewhere, 1)),
    },
    limits: {
      ...spread('bareTreeDead', bare.flat()),
      bareLastTreeDeadMs: bareLast,
      leaseMs: LEASE_MS,
    },
    ratios: {
      treeDead: ratio(median(dead), median(bare.flat())),
      lastTreeDead: ratio(last, bareLast),
      elsewhereToLease: ratio(median(elsewhere), LEASE_MS),
    },
  };
}
