import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer } from '#libs/local-server';
import {
  median,
  perSecond,
  ratio,
  round,
  timed,
  within,
  type BenchOptions,
  type BenchResult,
} from './measure';
import { driveExecution } from './support/engine';
import { startBenchFleet } from './support/fleet';
import { FlowPeer } from './support/flow-peer';
import { fanIn, fanOutIn, layers, requestOf, specOf, type Graph } from './support/graph';
import { longestStep } from './support/server-counts';

/** Nodes at a time, here and for the peer. */
const CONCURRENCY = 32;
const WIDTH = 50;
/** Of each worker, here and for the peer. */
const WORKER_CONCURRENCY = 8;
const RUN_MS = 90_000;

type Part = Omit<BenchResult, 'name'>;

/** The graph alone, driven in this process, and a real fleet end to end; beside BullMQ's flows of as many jobs. */
export async function benchDag({ quick, least }: BenchOptions): Promise<BenchResult> {
  const engine = await measureEngine(quick, least);
  const fleet = await measureFleet(quick);
  return {
    name: 'dag',
    figures: { ...engine.figures, ...fleet.figures },
    ratios: { ...engine.ratios, ...fleet.ratios },
    limits: { ...engine.limits, ...fleet.limits },
  };
}

async function measureEngine(quick: boolean, least: boolean): Promise<Part> {
  const count = quick ? 200 : 1_000;
  const large = least ? 200 : quick ? 1_000 : 10_000;
  const rounds = quick ? 1 : 3;
  const server = await startThrowawayServer();
  const valkey = new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 });
  let peer: FlowPeer | undefined;
  try {
    const life = new LifecycleService(await valkey.open(), { retentionMs: 60_000 });
    const run = async (graph: Graph): Promise<void> => {
      const { id } = await life.executions.create(specOf(graph), { start: true, canonical: '' });
      await within(RUN_MS, 'a graph', driveExecution(life, id, CONCURRENCY));
    };
    const flows = (peer = await FlowPeer.start(server.url, { processes: 1, concurrency: CONCURRENCY }));
    await run(layers(WIDTH, WIDTH));
    await flows.run(WIDTH, WIDTH);
    const before = total(valkey);
    const ms: Timings = { layers: [], fan: [], flowChains: [], flowFan: [] };
    for (let i = 0; i < rounds; i++) {
      ms.layers.push(await timed(async () => run(layers(count, WIDTH))));
      ms.flowChains.push(await timed(async () => flows.run(count - 1, WIDTH)));
      ms.fan.push(await timed(async () => run(fanIn(count))));
      ms.flowFan.push(await timed(async () => flows.run(count - 1, count - 1)));
    }
    const scripts = (total(valkey) - before) / (2 * count * rounds);
    const big = await measureLarge(life, large);
    return {
      figures: {
        nodes: count,
        layersNodesPerSecond: perSecond(count, median(ms.layers)),
        fanNodesPerSecond: perSecond(count, median(ms.fan)),
        scriptsPerNode: round(scripts),
        ...big,
      },
      limits: {
        bullmqChainsJobsPerSecond: perSecond(count, median(ms.flowChains)),
        bullmqFanJobsPerSecond: perSecond(count, median(ms.flowFan)),
      },
      ratios: {
        layersToBullmqFlow: ratio(median(ms.layers), median(ms.flowChains)),
        fanToBullmqFlow: ratio(median(ms.fan), median(ms.flowFan)),
        largeToSmallPerNode: ratio(1_000 / big.largeNodesPerSecond, median(ms.fan) / count),
      },
    };
  } finally {
    await peer?.stop();
    valkey.close();
    await server.stop();
  }
}

interface Timings {
  readonly layers: number[];
  readonly fan: number[];
  readonly flowChains: number[];
  readonly flowFan: number[];
}

/** One node opens all others and the last waits for all: how long a script blocks the server. */
async function measureLarge(life: LifecycleService, count: number) {
  const spec = specOf(fanOutIn(count));
  const { redis } = life.valkey;
  let id = '';
  let createMs = 0;
  let runMs = 0;
  const creating = await longestStep(redis, async () => {
    createMs = await timed(async () => {
      ({ id } = await life.executions.create(spec, { start: true, canonical: '' }));
    });
  });
  const running = await longestStep(redis, async () => {
    runMs = await timed(async () => within(RUN_MS, 'the large graph', driveExecution(life, id, CONCURRENCY)));
  });
  return {
    largeNodes: count,
    largeCreateMs: round(createMs),
    largeNodesPerSecond: perSecond(count, createMs + runMs),
    largeCreateLongestCommandMs: round(creating.commandMs),
    largeCreateLongestScriptMs: round(creating.scriptMs),
    largeRunLongestScriptMs: round(running.scriptMs),
  };
}

/** Every node is `/bin/true`: created over HTTP, run by two worker processes, and done when the client learns of it. */
async function measureFleet(quick: boolean): Promise<Part> {
  const count = quick ? 40 : 200;
  const width = 20;
  const rounds = quick ? 1 : 3;
  const fleet = await startBenchFleet(WORKER_CONCURRENCY);
  let peer: FlowPeer | undefined;
  try {
    const { client } = fleet;
    const run = async (graph: Graph): Promise<void> => {
      const { execution } = await client.createExecution(requestOf(graph, () => ['/bin/true']));
      const { state } = await within(RUN_MS, 'an execution', client.waitForEnd(execution.id));
      if (state !== 'completed') throw new Error(`an execution ended as ${state}`);
    };
    const setting = { processes: 2, concurrency: WORKER_CONCURRENCY, program: '/bin/true' };
    const flows = (peer = await FlowPeer.start(fleet.url, setting));
    await run(layers(width, width));
    await flows.run(width, width);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let i = 0; i < rounds; i++) {
      ours.push(await timed(async () => run(layers(count, width))));
      theirs.push(await timed(async () => flows.run(count - 1, width)));
    }
    return {
      figures: {
        fleetNodes: count,
        fleetNodesPerSecond: perSecond(count, median(ours)),
        fleetMs: round(median(ours)),
      },
      limits: {
        bullmqSpawnJobsPerSecond: perSecond(count, median(theirs)),
        bullmqSpawnMs: round(median(theirs)),
      },
      ratios: { fleetToBullmqSpawn: ratio(median(ours), median(theirs)) },
    };
  } finally {
    await peer?.stop();
    await fleet.stop();
  }
}

function total(valkey: Valkey): number {
  return [...valkey.scripts.calls.values()].reduce((sum, calls) => sum + calls, 0);
}
