import type { DispatchEntry } from '#libs/contracts';
import { LifecycleService } from '#libs/lifecycle';
import { startThrowawayServer, Valkey } from '#libs/valkey';
import { FlowProducer, Worker, type FlowJob } from 'bullmq';
import { layeredSpec } from './graph';
import { round, timed, type BenchOptions, type BenchResult } from './measure';

const CONCURRENCY = 32;

/**
 * Graph cost alone: claims and ends are driven in this process, so no agent's own time is in it. The peer is BullMQ's
 * flow of as many jobs with a processor that does nothing; a flow is a tree, so each of ours has twice its edges.
 */
export async function benchDag({ quick }: BenchOptions): Promise<BenchResult> {
  const count = quick ? 300 : 2_000;
  const large = quick ? 1_000 : 10_000;
  const server = await startThrowawayServer();
  const valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
  const life = new LifecycleService(valkey, { retentionMs: 60_000 });
  try {
    const before = total(valkey);
    const ours = await timed(async () => runGraph(life, count));
    const scripts = (total(valkey) - before) / count;
    const peer = await timed(async () => runFlow(valkey, count));
    const whole = await timed(async () => runGraph(life, large));
    const bare = await bareRoundTripMs(valkey, quick ? 200 : 2_000);
    return {
      name: 'dag',
      figures: {
        nodes: count,
        nodesPerSecond: round((count * 1_000) / ours),
        scriptsPerNode: round(scripts),
        largeNodes: large,
        largeNodesPerSecond: round((large * 1_000) / whole),
      },
      limits: { bullmqFlowJobsPerSecond: round((count * 1_000) / peer), bareRoundTripMs: round(bare) },
      ratios: {
        timeToBullmqFlow: round(ours / peer),
        largeToSmallPerNode: round(whole / large / (ours / count)),
      },
    };
  } finally {
    valkey.close();
    await server.stop();
  }
}

function total(valkey: Valkey): number {
  return [...valkey.scripts.calls.values()].reduce((sum, calls) => sum + calls, 0);
}

async function bareRoundTripMs(valkey: Valkey, rounds: number): Promise<number> {
  const ms = await timed(async () => {
    for (let i = 0; i < rounds; i++) await valkey.redis.ping();
  });
  return ms / rounds;
}

async function runGraph(life: LifecycleService, count: number): Promise<void> {
  const { id } = await life.executions.create(layeredSpec(count, 50), { start: true, canonical: '' });
  const ready: DispatchEntry[] = [];
  const advance = async (): Promise<void> => {
    for (let more = true; more;) {
      const step = await life.executions.advance(id);
      ready.push(...step.entries);
      more = step.more;
    }
  };
  await advance();
  let running = 0;
  await new Promise<void>((resolve, reject) => {
    const pump = (): void => {
      while (running < CONCURRENCY && ready.length > 0) {
        running++;
        void next(ready.shift() as DispatchEntry).catch(reject);
      }
    };
    const next = async (entry: DispatchEntry): Promise<void> => {
      const ended = await one(entry);
      running--;
      if (ended) resolve();
      else pump();
    };
    const one = async (entry: DispatchEntry): Promise<boolean> => {
      const claim = await life.agents.claim(entry, 'wrk_bench', 't');
      if (!claim.claimed) throw new Error(claim.why);
      await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'group' });
      const end = await life.agents.finish(claim.fence, { state: 'completed', exitCode: 0 });
      ready.push(...end.entries);
      if (end.more) await advance();
      return end.state === 'completed';
    };
    pump();
  });
}

/** A flow of as many jobs: layers of 50 below one root, each job with one child below it. */
async function runFlow(valkey: Valkey, count: number): Promise<void> {
  const queueName = 'bench-flow';
  const connection = valkey.connections.create('blocking');
  const workerConnection = valkey.connections.create('blocking');
  const producer = new FlowProducer({ connection });
  const worker = new Worker(queueName, async () => undefined, {
    connection: workerConnection,
    concurrency: CONCURRENCY,
  });
  let left = count;
  const done = new Promise<void>((resolve) => worker.on('completed', () => --left === 0 && resolve()));
  const depth = Math.ceil((count - 1) / 50);
  let made = 1;
  const chain = (levels: number): FlowJob => ({
    name: 'n',
    queueName,
    ...(levels > 1 && made < count ? (made++, { children: [chain(levels - 1)] }) : {}),
  });
  const children: FlowJob[] = [];
  for (let i = 0; i < 50 && made < count; i++) {
    made++;
    children.push(chain(depth));
  }
  await producer.add({ name: 'root', queueName, children });
  left -= count - made;
  await done;
  await worker.close();
  await producer.close();
}
