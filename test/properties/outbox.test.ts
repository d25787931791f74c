import type { AgentJob, ExecutionSpec, NodeSpec } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import { AttemptEnds, DagExecutor, Janitor } from '#libs/executions';
import { LifecycleService, type AgentOutcome, type Fence } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import type { Job, Queue } from 'bullmq';
import fc from 'fast-check';
import { expectProperty } from './runs';
import { node } from '../support/life';

const POOLS = ['default', 'gpu'];
const PREFIX = 'bull';

class Crash extends Error {}

/**
 * One orchestrator or worker, as far as it hands work over. It dies at any call to the server, before or after the call ran.
 */
class Hand {
  readonly life: LifecycleService;
  readonly queues: AgentQueues;
  readonly dag: DagExecutor;
  readonly ends: AttemptEnds;
  readonly janitor: Janitor;
  private left = Infinity;
  private isAfter = false;

  constructor(
    private readonly valkey: Valkey,
    onError: (error: unknown) => void,
  ) {
    const { scripts } = valkey;
    const run = scripts.run.bind(scripts);
    scripts.run = async (...args: Parameters<typeof run>) => this.mortal(async () => run(...args));
    this.life = new LifecycleService(valkey, { retentionMs: 600_000 });
    this.queues = new AgentQueues(this.life, { prefix: PREFIX });
    for (const pool of POOLS) {
      const queue = this.queue(pool);
      const addBulk = queue.addBulk.bind(queue);
      queue.addBulk = async (jobs) => this.mortal(async () => addBulk(jobs));
    }
    this.dag = new DagExecutor(this.life, this.queues);
    this.ends = new AttemptEnds(this.life, this.dag);
    this.janitor = new Janitor(this.life, this.queues, this.dag, this.ends, {
      intervalMs: 1,
      retentionMs: 600_000,
      onError,
    });
  }

  queue(pool: string): Queue<AgentJob> {
    return (this.queues as unknown as { queue(pool: string): Queue<AgentJob> }).queue(pool);
  }

  /** Dies at its call number `calls`, and does nothing afterwards. True: it lived. */
  async until(calls: number, isAfter: boolean, work: () => Promise<unknown>): Promise<boolean> {
    this.left = calls;
    this.isAfter = isAfter;
    try {
      await work();
      return this.left > 0;
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      return false;
    } finally {
      this.left = Infinity;
    }
  }

  private async mortal<T>(call: () => Promise<T>): Promise<T> {
    if (this.left <= 0) throw new Crash();
    this.left--;
    if (this.left > 0) return call();
    if (this.isAfter) await call();
    throw new Crash();
  }

  async close(): Promise<void> {
    await this.queues.close();
    this.valkey.close();
  }
}

let server: ThrowawayServer;
let hands: Hand[];
let reader: Hand;
let errors: unknown[] = [];

const open = async (): Promise<Hand> =>
  new Hand(await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 2 }).open(), (error) => {
    if (!(error instanceof Crash)) errors.push(error);
  });

beforeAll(async () => {
  server = await startThrowawayServer();
  reader = await open();
  hands = [await open(), await open(), await open()];
});
afterAll(async () => {
  await Promise.all([reader, ...hands].map(async (hand) => hand.close()));
  await server.stop();
});

interface Act {
  readonly what: string;
  /** One of the three processes. */
  readonly who: number;
  readonly pick: number;
  /** The number of the call at which it dies; beyond its calls it lives. */
  readonly calls: number;
  readonly isAfter: boolean;
}

const act = (weight: number, ...what: string[]): fc.WeightedArbitrary<Act> => ({
  weight,
  arbitrary: fc.record({
    what: fc.constantFrom(...what),
    who: fc.nat(2),
    pick: fc.nat(20),
    calls: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 12 })),
    isAfter: fc.boolean(),
  }),
});
const acts = fc.array(
  fc.oneof(
    act(3, 'submit'),
    act(8, 'take', 'takeTwice'),
    act(8, 'end'),
    act(4, 'sweep', 'sweepTogether'),
    act(4, 'wait', 'loseJob'),
    act(1, 'stop', 'emptyQueue'),
  ),
  { minLength: 1, maxLength: 30, size: 'max' },
);
/** Each node's dependencies among the nodes before it; every second one in the other pool. */
const graphs = fc.array(fc.uniqueArray(fc.nat(4), { maxLength: 2 }), { minLength: 1, maxLength: 5 });

class World {
  readonly executions: string[] = [];
  /** Live agents, with the ends that their workers will report. */
  readonly live = new Map<string, { fence: Fence; node: NodeSpec }>();
  readonly claimed = new Map<string, number>();
  private tokens = 0;

  constructor(private readonly graph: readonly (readonly number[])[]) {}

  private spec(): ExecutionSpec {
    const nodes = this.graph.map((before, i): NodeSpec =>
      node(`n${i}`, {
        dependsOn: before.filter((from) => from < i).map((from) => `n${from}`),
        pool: POOLS[i % 2]!,
        maxAttempts: i % 3 === 1 ? 1 : 2,
        backoff: { type: 'fixed', delayMs: 5, maxMs: 5, jitter: 0 },
        allowFailure: i % 3 === 0,
      }),
    );
    return { name: 'any', labels: {}, onFailure: 'continue', nodes };
  }

  async jobs(): Promise<Job<AgentJob>[]> {
    const lists = await Promise.all(
      POOLS.map(async (pool) => reader.queue(pool).getJobs(['prioritized', 'wait', 'delayed'])),
    );
    return lists.flat().sort((a, b) => (a.id! < b.id! ? -1 : 1));
  }

  /** A worker takes a job and claims it; `twice`: BullMQ gives it to another as well. */
  async take(
    hand: Hand,
    job: Job<AgentJob>,
    twice: boolean,
    calls = Infinity,
    isAfter = false,
  ): Promise<void> {
    for (let copy = 0; copy < (twice ? 2 : 1); copy++) {
      const token = `token ${this.tokens++}`;
      const worker = `wrk_${this.tokens % 4}`;
      await hand.until(calls, isAfter, async () => {
        const granted = await hand.life.agents.claim(job.data, worker, token);
        // Its worker died after the claim: the agent is lost, later.
        if (granted.claimed) this.granted(granted.fence, granted.node);
      });
      await this.findLost(job.data, worker, token);
    }
    await job.remove().catch(() => undefined);
  }

  private granted(fence: Fence, node: NodeSpec): void {
    this.claimed.set(fence.agentId, (this.claimed.get(fence.agentId) ?? 0) + 1);
    expect([fence.agentId, this.claimed.get(fence.agentId)]).toEqual([fence.agentId, 1]);
    this.live.set(fence.agentId, { fence, node });
  }

  /** A claim that was granted although its worker never got the answer. */
  private async findLost(job: AgentJob, worker: string, token: string): Promise<void> {
    if (this.claimed.has(job.agentId)) return;
    const agent = await reader.life.agents.get(job.agentId).catch(() => undefined);
    if (agent === undefined) return;
    const granted = await reader.life.agents.claim(job, worker, token);
    if (granted.claimed) this.granted(granted.fence, granted.node);
  }

  async end(hand: Hand, pick: number, calls: number, isAfter: boolean): Promise<void> {
    const [agentId, held] = [...this.live][pick % Math.max(1, this.live.size)] ?? [];
    if (agentId === undefined || held === undefined) return;
    const { fence, node } = held;
    const ends: AgentOutcome[] = [
      { state: 'completed', result: 1 },
      { state: 'failed', error: { code: 'EXIT', message: 'no' } },
      { state: 'failed', reason: 'worker_lost', error: { code: 'WORKER_LOST', message: 'no' } },
    ];
    const outcome = ends[pick % 3]!;
    const lived = await hand.until(calls, isAfter, async () => {
      if (outcome.state === 'completed')
        await hand.life.agents.started(fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
      await hand.ends.end(fence, outcome, node);
    });
    const { state } = await reader.life.agents.get(agentId);
    if (state !== 'spawning' && state !== 'running') this.live.delete(agentId);
    else expect(lived).toBe(false);
  }

  /** Makes everything due now, and ends the locks of dead processes. */
  async wait(): Promise<void> {
    const { redis, keys } = reader.life.valkey;
    for (const tag of keys.tags()) {
      const at = keys.shard(tag, 'outbox:at');
      for (const id of await redis.zrange(at, 0, '-1')) await redis.zadd(at, 'XX', 1, id);
      await redis.del(keys.shard(tag, 'turn:janitor'));
    }
    await redis.del(keys.shard(keys.control, 'turn:janitor'));
  }

  async take1(one: Act): Promise<void> {
    const { what, who, pick, calls, isAfter } = one;
    const hand = hands[who]!;
    switch (what) {
      case 'submit': {
        if (this.executions.length === 3) break;
        const id = reader.life.executions.newId();
        await hand.until(calls, isAfter, async () => {
          const { created } = await hand.life.executions.create(this.spec(), {
            id,
            start: true,
            canonical: 'x',
          });
          if (created) await hand.dag.drive(id);
        });
        if (await reader.life.executions.get(id).catch(() => undefined)) this.executions.push(id);
        break;
      }
      case 'take':
      case 'takeTwice': {
        const jobs = await this.jobs();
        const job = jobs[pick % Math.max(1, jobs.length)];
        if (job !== undefined) await this.take(hand, job, what === 'takeTwice', calls, isAfter);
        break;
      }
      case 'end':
        await this.end(hand, pick, calls, isAfter);
        break;
      case 'sweep':
        await hand.until(calls, isAfter, async () => hand.janitor.sweep());
        break;
      case 'sweepTogether':
        await Promise.all(
          hands.map(async (each, i) =>
            each.until(i === who ? calls : Infinity, isAfter, async () => each.janitor.sweep()),
          ),
        );
        break;
      case 'wait':
        await this.wait();
        break;
      case 'loseJob': {
        const jobs = await this.jobs();
        await jobs[pick % Math.max(1, jobs.length)]?.remove();
        break;
      }
      case 'emptyQueue':
        await reader.queue(POOLS[pick % 2]!).obliterate({ force: true });
        break;
      case 'stop': {
        const id = this.executions[pick % Math.max(1, this.executions.length)];
        if (id === undefined) break;
        await hand.until(calls, isAfter, async () => {
          await hand.life.executions.stop(id, { reason: 'user_abort' });
          await hand.dag.drive(id);
        });
        break;
      }
      default:
        throw new Error(`no act ${what}`);
    }
    await this.expectSound();
  }

  /** The outbox has exactly the ready attempts; each claimed attempt was claimed once. */
  async expectSound(): Promise<void> {
    const { life } = reader;
    const { redis, keys } = life.valkey;
    const listed = (
      await Promise.all(keys.tags().map(async (tag) => redis.hkeys(keys.shard(tag, 'outbox'))))
    ).flat();
    const due = (
      await Promise.all(keys.tags().map(async (tag) => redis.zrange(keys.shard(tag, 'outbox:at'), 0, '-1')))
    ).flat();
    const ready: string[] = [];
    for (const id of this.executions)
      for (const node of (await life.executions.nodes(id)).items)
        if (node.state === 'ready') ready.push(`agt_${id.slice(4)}-${node.index}-${node.attempt}`);
    expect(listed.sort()).toEqual(ready.sort());
    expect(due.sort()).toEqual(ready);
  }

  async drain(): Promise<void> {
    for (let round = 0; ; round++) {
      expect(round).toBeLessThan(40);
      await this.wait();
      await hands[round % 3]!.janitor.sweep();
      for (const job of await this.jobs()) await this.take(hands[0]!, job, false);
      for (const [agentId] of this.live)
        await this.end(hands[1]!, [...this.live.keys()].indexOf(agentId), Infinity, false);
      await this.expectSound();
      const records = await Promise.all(this.executions.map(async (id) => reader.life.executions.get(id)));
      if (
        records.every(({ state }) => ['completed', 'failed', 'stopped'].includes(state)) &&
        (await this.jobs()).length === 0
      )
        break;
    }
    for (const id of this.executions) {
      const nodes = (await reader.life.executions.nodes(id)).items;
      const agents = await reader.life.agents.list({ executionId: id });
      expect(agents.map((agent) => agent.id).sort()).toEqual(
        [...this.claimed.keys()].filter((agent) => agent.startsWith(`agt_${id.slice(4)}`)).sort(),
      );
      for (const node of nodes) {
        const own = agents.filter(({ nodeId }) => nodeId === node.id);
        expect(own.filter(({ state }) => state === 'completed').length).toBe(
          node.state === 'completed' ? 1 : 0,
        );
      }
    }
  }
}

it('R4 R25 R33 R36 any process dies between script, queue and acknowledgement, BullMQ loses or repeats any job: a ready attempt is listed until claimed, each is claimed once, and the outbox empties', async () => {
  await expectProperty(
    fc.asyncProperty(graphs, acts, async (graph, chosen) => {
      errors = [];
      await reader.life.valkey.redis.flushall();
      const world = new World(graph);
      await world.take1({ what: 'submit', who: 0, pick: 0, calls: 1_000, isAfter: false });
      for (const one of chosen) await world.take1(one);
      await world.drain();
      expect(errors).toEqual([]);
    }),
    25,
  );
}, 600_000);
