import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer } from '#libs/local-server';
import {
  joinLanes,
  median,
  perSecond,
  ratio,
  runLanes,
  spread,
  type BenchOptions,
  type BenchResult,
  type Lanes,
} from './measure';
import { driveAgent, readyNodes } from './support/engine';
import { loose, specOf } from './support/graph';
import { countCommands, countScripts } from './support/server-counts';

const LANES = 64;
const SLICES = 4;
const COUNTED = 100;

/** The least fenced transition with its event: read, compare, write, append, announce. */
const BARE = `
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('XADD', KEYS[1] .. ':events', 'MAXLEN', '~', 1000, '*', 'e', ARGV[2])
redis.call('PUBLISH', 'bench', ARGV[2])
return 1`;

type Step = (lane: number, round: number) => Promise<unknown>;

/** Ours and the limit in slices, in turn. */
async function inTurn(lanes: number, rounds: number, ours: Step, bare: Step): Promise<[Lanes, Lanes]> {
  const runs: [Lanes[], Lanes[]] = [[], []];
  for (let slice = 0; slice < SLICES; slice++) {
    runs[0].push(await runLanes(lanes, rounds / SLICES, ours));
    runs[1].push(await runLanes(lanes, rounds / SLICES, bare));
  }
  return [joinLanes(runs[0]), joinLanes(runs[1])];
}

/** One compare-and-set with its event, and a whole agent's life, beside a bare EVALSHA, in turn: alone and 64 at once. */
export async function benchTransition({ quick }: BenchOptions): Promise<BenchResult> {
  const serial = quick ? 200 : 4_000;
  const each = quick ? 8 : 200;
  const server = await startThrowawayServer();
  const valkey = new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 });
  try {
    const life = new LifecycleService(await valkey.open(), { retentionMs: 60_000 });
    const transitions = await measureTransitions(life, serial, each);
    const lives = await measureLives(life, quick ? 100 : 1_000, quick ? 2 : 24);
    return {
      name: 'transition',
      figures: {
        ...spread('transition', transitions.alone.samples),
        transitionsPerSecond: perSecond(serial, transitions.alone.ms),
        ...spread('transitionOf64', transitions.atOnce.samples),
        transitionsOf64PerSecond: perSecond(each * LANES, transitions.atOnce.ms),
        roundTripsPerTransition: transitions.roundTrips,
        scriptsPerTransition: transitions.scripts,
        ...spread('agentLife', lives.alone.samples),
        agentLivesPerSecond: perSecond(lives.alone.samples.length, lives.alone.ms),
        ...spread('agentLifeOf64', lives.atOnce.samples),
        agentLivesOf64PerSecond: perSecond(lives.atOnce.samples.length, lives.atOnce.ms),
        roundTripsPerAgentLife: lives.roundTrips,
      },
      limits: {
        ...spread('bareEvalsha', transitions.bareAlone.samples),
        bareEvalshasPerSecond: perSecond(serial, transitions.bareAlone.ms),
        ...spread('bareEvalshaOf64', transitions.bareAtOnce.samples),
        bareEvalshasOf64PerSecond: perSecond(each * LANES, transitions.bareAtOnce.ms),
      },
      ratios: {
        transition: ratio(median(transitions.alone.samples), median(transitions.bareAlone.samples)),
        transitionOf64: ratio(transitions.atOnce.ms, transitions.bareAtOnce.ms),
        agentLifePerScript: ratio(
          median(lives.alone.samples) / lives.roundTrips,
          median(transitions.bareAlone.samples),
        ),
        agentLifeOf64PerScript: ratio(
          lives.atOnce.ms / lives.atOnce.samples.length / lives.roundTrips,
          transitions.bareAtOnce.ms / (each * LANES),
        ),
      },
    };
  } finally {
    valkey.close();
    await server.stop();
  }
}

async function measureTransitions(life: LifecycleService, serial: number, each: number) {
  const { redis } = life.valkey;
  const sha = (await redis.script('LOAD', BARE)) as string;
  const ids = await Promise.all(
    Array.from({ length: LANES }, async (_, lane) => {
      await redis.hset(`{bench}:${lane}`, 'state', 'a', 'version', '1');
      const { id } = await life.executions.create(specOf(loose(1)), { start: true, canonical: '' });
      return id;
    }),
  );
  const ours: Step = async (lane, i) => {
    const [from, to] = i % 2 === 0 ? (['running', 'paused'] as const) : (['paused', 'running'] as const);
    await life.executions.transition(ids[lane] ?? '', to, { from });
  };
  const bare: Step = async (lane, i) => {
    const [from, to] = i % 2 === 0 ? ['a', 'b'] : ['b', 'a'];
    if ((await redis.evalsha(sha, 1, `{bench}:${lane}`, from, to)) !== 1)
      throw new Error('a bare transition was refused');
  };
  await inTurn(1, 20 * SLICES, ours, bare); // so that no first call counts
  const [alone, bareAlone] = await inTurn(1, serial, ours, bare);
  const [atOnce, bareAtOnce] = await inTurn(LANES, each, ours, bare);
  const scripts = await countScripts(redis);
  const commands = countCommands(redis);
  await runLanes(1, COUNTED, ours);
  const roundTrips = commands() / COUNTED;
  return { alone, bareAlone, atOnce, bareAtOnce, roundTrips, scripts: (await scripts()) / COUNTED };
}

/** claimed → started → finished. */
async function measureLives(life: LifecycleService, serial: number, each: number) {
  const graph = specOf(loose(1 + serial + each * LANES));
  const { id } = await life.executions.create(graph, { start: true, canonical: '' });
  const entries = await readyNodes(life, id);
  const step = async (): Promise<void> => {
    const entry = entries.pop();
    if (entry === undefined) throw new Error('no node is left');
    await driveAgent(life, entry);
  };
  await step(); // loads the scripts
  const commands = countCommands(life.valkey.redis);
  const alone = await runLanes(1, serial, step);
  const roundTrips = commands() / serial;
  return { alone, atOnce: await runLanes(LANES, each, step), roundTrips };
}
