import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BelayEvent } from '#libs/contracts';
import type { Server } from '#libs/valkey';
import { pause, percentile, round, spread, timed, type BenchOptions, type BenchResult } from './measure';
import { makeTempDir } from './support/child';
import { startBenchFleet, type BenchFleet } from './support/fleet';

const CONCURRENCY = 16;
const PROBE_MS = 25;
const PACE_MS = 100;
/** A line of fd 3 may have 1 MiB; this leaves room for the message around the value. */
const VALUE_BYTES = 1024 * 1024 - 64;

interface Sample {
  /** The time from an event's report to its entry in the stream. Milliseconds. */
  readonly reports: readonly number[];
  readonly lost: number;
  /** The worker's own HTTP page answers this late: the delay of its event loop. Milliseconds. */
  readonly loop: readonly number[];
  /** The delay of the state server's answers. Milliseconds. */
  readonly pings: readonly number[];
  readonly longestBeatMs: number;
  readonly serverBytesPerSecond: number;
}

/** One agent that reports at a steady rate, beside agents that flood; all on one worker. */
async function measure(
  flood: readonly (readonly string[])[],
  seconds: number,
  settleMs: number,
): Promise<Sample> {
  const fleet = await startBenchFleet(CONCURRENCY, 1);
  try {
    const flooding = flood.map(async (command) => submit(fleet, command));
    const ids = await Promise.all(flooding);
    await pause(ids.length === 0 ? 0 : settleMs);
    const count = Math.round((seconds * 1_000) / PACE_MS);
    const script = `i=0; while [ $i -lt ${count} ]; do echo '{"type":"event","name":"tick","data":'$(date +%s%3N)'}' >&3; i=$((i+1)); sleep ${PACE_MS / 1_000}; done`;
    const ninth = await submit(fleet, ['/bin/sh', '-c', script]);
    const probing = probe(fleet);
    await fleet.client.waitForEnd(ninth, { giveUpAfterMs: 120_000 });
    const probed = await probing.end();
    const ticks = await ticksOf(fleet, ninth);
    await Promise.all(ids.map(async (id) => fleet.client.stop(id)));
    return {
      ...probed,
      reports: ticks.map(({ at, data }) => at - (data as { value: number }).value),
      lost: count - ticks.length,
    };
  } finally {
    await fleet.stop();
  }
}

async function submit(fleet: BenchFleet, command: readonly string[]): Promise<string> {
  const nodes = [{ id: 'a', maxAttempts: 1, run: { command: [...command] } }];
  return (await fleet.client.createExecution({ name: 'flood', nodes })).execution.id;
}

async function ticksOf(fleet: BenchFleet, id: string): Promise<BelayEvent[]> {
  const { redis, keys } = fleet.valkey;
  const rows = await redis.xrange(`${keys.execution(id)}:events`, '-', '+');
  return rows
    .map(([, fields]) => JSON.parse(fields[1] ?? '{}') as BelayEvent)
    .filter(({ type }) => type === 'agent.event');
}

function probe(fleet: BenchFleet): { end(): Promise<Omit<Sample, 'reports' | 'lost'>> } {
  const loop: number[] = [];
  const pings: number[] = [];
  const beats = new Set<number>();
  const over = new AbortController();
  const { redis } = fleet.valkey;
  const began = performance.now();
  const run = (async (): Promise<Omit<Sample, 'reports' | 'lost'>> => {
    const before = await bytesIn(redis);
    const [worker] = (await fleet.client.workers()).items;
    while (!over.signal.aborted) {
      loop.push(await timed(async () => fetch(`http://127.0.0.1:${worker?.httpPort}/health`)));
      pings.push(await timed(async () => redis.ping()));
      const beat = await redis.hget(fleet.valkey.keys.worker(worker?.id ?? ''), 'lastHeartbeatAt');
      if (beat !== null) beats.add(Number(beat));
      await pause(PROBE_MS);
    }
    const seen = [...beats];
    const gaps = seen.slice(1).map((at, i) => at - (seen[i] ?? at));
    const bytes = (await bytesIn(redis)) - before;
    return {
      loop,
      pings,
      longestBeatMs: Math.max(0, ...gaps),
      serverBytesPerSecond: Math.round((bytes * 1_000) / (performance.now() - began)),
    };
  })();
  return {
    end: async () => {
      over.abort();
      return run;
    },
  };
}

async function bytesIn(redis: Server): Promise<number> {
  const info = await redis.info('stats');
  return Number(/total_net_input_bytes:(\d+)/.exec(info)?.[1]);
}

function figuresOf(name: string, sample: Sample): Record<string, number> {
  return {
    ...spread(`${name}Report`, sample.reports),
    [`${name}ReportsLost`]: sample.lost,
    ...spread(`${name}Loop`, sample.loop),
    [`${name}LoopMsMax`]: round(percentile(sample.loop, 1)),
    ...spread(`${name}Ping`, sample.pings),
    [`${name}LongestBeatMs`]: sample.longestBeatMs,
    [`${name}ServerKiBPerSecond`]: Math.round(sample.serverBytesPerSecond / 1024),
  };
}

/** The cost of flooding agents to another agent, their worker and the server: eight floods on fd 3, and four `yes`. */
export async function benchFloods({ quick, least }: BenchOptions): Promise<BenchResult> {
  const seconds = least ? 0.5 : quick ? 2 : 20;
  const dir = makeTempDir();
  const big = (type: string): string => JSON.stringify({ type, value: 'x'.repeat(VALUE_BYTES) });
  const file = join(dir.path, 'messages');
  writeFileSync(file, `${big('progress')}\n${big('checkpoint')}\n`);
  const shouting = ['/bin/sh', '-c', `while :; do cat ${file} >&3; done`];
  try {
    const settleMs = least ? 200 : 2_000;
    const alone = await measure([], seconds, settleMs);
    const reports = await measure(
      Array.from({ length: least ? 1 : 8 }, () => shouting),
      seconds,
      settleMs,
    );
    const yes = await measure(
      Array.from({ length: least ? 1 : 4 }, () => ['yes']),
      seconds,
      settleMs,
    );
    return {
      name: 'floods',
      figures: { ...figuresOf('reports', reports), ...figuresOf('yes', yes) },
      limits: figuresOf('alone', alone),
      ratios: {},
    };
  } finally {
    dir.remove();
  }
}
