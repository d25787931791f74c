import type { ExecutionSpec, NodeSpec } from '#libs/contracts';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import fc from 'fast-check';
import { GraphModel, type End, type Latched, type ModelNode } from './graph-model';
import { GraphRig } from './graph-rig';
import { expectProperty } from './runs';
import { node, upstreamOf } from '../support/life';

let server: ThrowawayServer;
let valkey: Valkey;

beforeAll(async () => {
  server = await startThrowawayServer();
  valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
});
afterAll(async () => {
  valkey.close();
  await server.stop();
});

interface Graph {
  readonly nodes: readonly {
    readonly before: readonly number[];
    readonly maxAttempts: number;
    readonly allowFailure: boolean;
    readonly pool: string;
  }[];
  readonly onFailure: 'stop' | 'continue';
  readonly start: boolean;
  /** How many nodes the end of an agent makes ready itself, and how many a step moves (one at least). */
  readonly piece: number;
}

const graphs: fc.Arbitrary<Graph> = fc.record({
  nodes: fc.array(
    fc.record({
      before: fc.uniqueArray(fc.nat(3), { maxLength: 3 }),
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      allowFailure: fc.boolean(),
      pool: fc.constantFrom('default', 'gpu'),
    }),
    { minLength: 1, maxLength: 7 },
  ),
  onFailure: fc.constantFrom('stop', 'continue'),
  start: fc.constantFrom(true, true, true, false),
  piece: fc.nat(2),
});

/** An act, and its object among the possible ones; `twice`: its reply is lost; `lag`: its consequences must wait. */
interface Act {
  readonly what: string;
  readonly pick: number;
  readonly how: number;
  readonly twice: boolean;
  readonly lag: boolean;
}

const act = (weight: number, ...what: string[]): fc.WeightedArbitrary<Act> => ({
  weight,
  arbitrary: fc.record({
    what: fc.constantFrom(...what),
    pick: fc.nat(20),
    how: fc.nat(20),
    twice: fc.constantFrom(false, false, true),
    lag: fc.constantFrom(false, false, true),
  }),
});
const acts = fc.array(
  fc.oneof(
    act(12, 'claim'),
    act(6, 'started', 'startedAll'),
    act(12, 'finish'),
    act(4, 'report'),
    act(1, 'prove'),
    act(3, 'stop', 'pause', 'resume'),
    act(3, 'retry'),
    act(2, 'latch', 'release', 'start'),
    act(3, 'staleFence', 'staleClaim'),
    act(2, 'again'),
  ),
  { maxLength: 40, size: 'max' },
);

const ENDS: readonly End[] = ['completed', 'completed', 'completed', 'failed', 'never', 'killed', 'lost'];
const LATCHES: readonly Latched[] = [
  { type: 'all' },
  { type: 'execution' },
  { type: 'pool', pool: 'gpu' },
  { type: 'pool', pool: 'default' },
];
const MAX_CENTS = 15;

function specOf(graph: Graph): { spec: ExecutionSpec; model: GraphModel } {
  const dependsOn = (i: number): string[] =>
    (graph.nodes[i]?.before ?? []).filter((from) => from < i).map((from) => `n${from}`);
  const nodes = graph.nodes.map(({ maxAttempts, allowFailure, pool }, i): NodeSpec =>
    node(`n${i}`, {
      dependsOn: dependsOn(i),
      pool,
      maxAttempts,
      backoff: { type: 'fixed', delayMs: 7, maxMs: 7, jitter: 0 },
      allowFailure,
    }),
  );
  const { onFailure } = graph;
  return {
    spec: { name: 'any', labels: {}, onFailure, nodes, timeoutMs: 600_000, maxCostUsd: MAX_CENTS / 100 },
    model: new GraphModel(
      nodes.map(({ id, dependsOn, maxAttempts, allowFailure, pool }): ModelNode => ({
        id,
        dependsOn,
        maxAttempts,
        allowFailure,
        pool,
        state: 'pending',
        attempt: 0,
        prior: 0,
      })),
      onFailure,
      MAX_CENTS,
    ),
  };
}

/** The product's answer: `ok`, or the code of its refusal. */
async function answer(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'ok';
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === undefined) throw error;
    return code;
  }
}

class Walk {
  settled = true;

  constructor(
    readonly rig: GraphRig,
    readonly model: GraphModel,
  ) {}

  private pick<T>(items: readonly T[], at: number): T | undefined {
    return items[at % items.length];
  }

  async catchUp(): Promise<void> {
    await this.rig.settle();
    await this.rig.adoptNeverBegun(this.model);
    this.settled = true;
  }

  /** An act on the whole execution waits until its state is settled; a stop may come between two steps all the same. */
  private async caughtUp(): Promise<void> {
    const { state } = await this.rig.life.executions.get(this.rig.id);
    if (state !== this.model.state) await this.catchUp();
  }

  /** A refusal leaves record, nodes, agents and events unchanged, byte for byte. */
  private async expectAnswer(call: () => Promise<unknown>, expected: string): Promise<void> {
    const before = expected === 'ok' ? undefined : await this.rig.told();
    expect(await answer(call())).toBe(expected === 'NOTHING' ? 'ok' : expected);
    if (before !== undefined) expect(await this.rig.told()).toEqual(before);
  }

  private async claim({ pick, how }: Act): Promise<void> {
    const { rig, model } = this;
    const entry = this.pick(await rig.outbox(), pick);
    if (entry === undefined) return;
    const { agentId, nodeId, attempt, pool } = entry;
    expect(pool).toBe(model.node(nodeId).pool);
    const worker = `wrk_${how % 3}`;
    const upstream = model.upstream(nodeId);
    const { prior } = model.node(nodeId);
    const expected = model.claim(nodeId, attempt, worker, agentId);
    const before = expected === 'ok' ? undefined : await rig.told();
    const granted = await rig.life.agents.claim(entry, worker, `token ${agentId}`);
    if (!granted.claimed) {
      expect({ why: granted.why }).toEqual({ why: expected });
      expect(await rig.told()).toEqual(before);
      return;
    }
    expect(expected).toBe('ok');
    expect(await upstreamOf(rig.life, rig.id, granted)).toEqual(upstream);
    expect(granted.node.priorAttempts ?? 0).toBe(prior);
    for (const fence of rig.fences.values())
      if (fence.agentId.startsWith(agentId.slice(0, agentId.lastIndexOf('-') + 1)))
        expect(granted.fence.epoch).toBeGreaterThan(fence.epoch);
    rig.fences.set(agentId, granted.fence);
  }

  private async started(agentId: string | undefined): Promise<void> {
    const agent = this.model.agents.get(agentId ?? '');
    if (agentId === undefined || agent === undefined) return;
    const { stopping } = await this.rig.life.agents.started(this.rig.fences.get(agentId)!, {
      pid: 1,
      pidStartTime: '1',
      containment: 'marks',
    });
    expect(stopping).toBe(this.model.state === 'stopping');
    agent.state = 'running';
  }

  private async finish({ pick, how }: Act): Promise<void> {
    const { rig, model } = this;
    const [agentId] = this.pick(model.live, pick) ?? [];
    if (agentId === undefined) return;
    const end = ENDS[how % ENDS.length]!;
    // Mostly it runs before it completes; otherwise its end is refused.
    if (end === 'completed' && pick % 8 !== 0 && model.agents.get(agentId)?.state === 'spawning')
      await this.started(agentId);
    const result = `of ${agentId}`;
    const outcome = rig.outcome(end, agentId, model, result);
    const expected = model.finish(agentId, end, result);
    await this.expectAnswer(async () => rig.life.agents.finish(rig.fences.get(agentId)!, outcome), expected);
  }

  /**
   * The same end again is no second end. Another end is refused, and so is one by a worker that is not the owner in its epoch.
   */
  private async stale({ pick, how }: Act): Promise<void> {
    const { rig, model } = this;
    const { agents } = rig.life;
    const [agentId, agent] = this.pick([...model.agents], pick) ?? [];
    if (agentId === undefined || agent === undefined) return;
    const fence = rig.fences.get(agentId)!;
    const wrong = how % 2 === 0 ? { ...fence, epoch: fence.epoch + 1 } : { ...fence, owner: 'wrk_other' };
    const process = { pid: 2, pidStartTime: '2', containment: 'marks' as const };
    await this.expectAnswer(async () => agents.finish(wrong, { state: 'failed' }), 'STALE_EPOCH');
    await this.expectAnswer(async () => agents.started(wrong, process), 'STALE_EPOCH');
    await this.expectAnswer(async () => agents.report(wrong, { costUsd: 9 }), 'STALE_EPOCH');
    if (agent.state === 'spawning' || agent.state === 'running') return;
    for (const state of ['completed', 'failed', 'killed'] as const)
      await this.expectAnswer(
        async () => agents.finish(fence, { state }),
        state === agent.state ? 'NOTHING' : 'INVALID_TRANSITION',
      );
    await this.expectAnswer(async () => agents.started(fence, process), 'INVALID_TRANSITION');
    await this.expectAnswer(async () => agents.report(fence, { costUsd: 9 }), 'STALE_EPOCH');
  }

  /** A job that BullMQ brings a second time, or too late. */
  private async staleClaim({ pick, how }: Act): Promise<void> {
    const { rig, model } = this;
    const node = this.pick(model.nodes, pick)!;
    const attempt = 1 + (how % (node.attempt + 1));
    const index = model.nodes.indexOf(node);
    const agentId = `agt_${rig.id.slice(4)}-${index}-${attempt}`;
    if (node.state === 'ready' && node.attempt === attempt) return;
    const before = await rig.told();
    const granted = await rig.life.agents.claim(
      { agentId, executionId: rig.id, nodeId: node.id, attempt },
      'wrk_late',
      'late',
    );
    expect(granted).toMatchObject({
      claimed: false,
      why: model.state === 'running' ? 'TAKEN' : 'NOT_RUNNING',
    });
    expect(await rig.told()).toEqual(before);
  }

  async take(one: Act): Promise<void> {
    const { rig, model } = this;
    const { executions, agents } = rig.life;
    rig.twice = one.twice;
    switch (one.what) {
      case 'claim':
        await this.claim(one);
        break;
      case 'started': {
        const spawning = model.live.filter(([, { state }]) => state === 'spawning');
        await this.started(this.pick(spawning, one.pick)?.[0]);
        break;
      }
      case 'startedAll':
        for (const [agentId, { state }] of model.live) if (state === 'spawning') await this.started(agentId);
        break;
      case 'finish':
        await this.finish(one);
        break;
      case 'report': {
        const [agentId] = this.pick(model.live, one.pick) ?? [];
        if (agentId === undefined) break;
        // Nothing, less than the budget, all of it, and just more.
        const cents = [0, 7, MAX_CENTS, MAX_CENTS + 1][one.how % 4]!;
        await agents.report(rig.fences.get(agentId)!, { costUsd: cents / 100 });
        model.report(agentId, cents);
        break;
      }
      case 'prove': {
        const lost = [...model.agents].filter(([, { unproved }]) => unproved);
        const [agentId, agent] = this.pick(lost, one.pick) ?? [];
        if (agentId === undefined || agent === undefined) break;
        const { state } = await executions.get(rig.id);
        const proof = { containment: 'marks', proved: true, processes: [], signals: [] } as const;
        await agents.prove(agentId, agent.owner, { ...proof, evidence: [], survivors: [], escalated: false });
        model.prove(agentId, state === 'stopping');
        break;
      }
      case 'start':
        await this.caughtUp();
        await this.expectAnswer(async () => executions.start(rig.id), model.start());
        break;
      case 'stop': {
        await this.caughtUp();
        const reason = one.how % 2 === 0 ? 'user_abort' : 'timeout';
        const before = await rig.told();
        const already = model.stop(reason) === 'already';
        const told = await executions.stop(rig.id, { reason });
        if (!one.twice) expect(told.already).toBe(already);
        if (already) expect(await rig.told()).toEqual(before);
        break;
      }
      case 'pause': {
        // The steps for which it waits are not done while it is paused.
        await this.catchUp();
        const mode = one.how % 2 === 0 ? 'drain' : 'freeze';
        await this.expectAnswer(
          async () => executions.pause(rig.id, { mode, actor: 'me' }),
          model.pause(mode),
        );
        break;
      }
      case 'resume':
        await this.caughtUp();
        await this.expectAnswer(async () => executions.resume(rig.id, 'me'), model.resume());
        break;
      case 'retry': {
        await this.catchUp();
        const request = { retryId: `r${one.pick}-${model.epoch}`, actor: 'me', force: one.how % 2 === 0 };
        await this.expectAnswer(async () => executions.retry(rig.id, request), model.retry(request.force));
        break;
      }
      case 'latch':
        model.latches = [LATCHES[one.pick % LATCHES.length]!];
        await rig.latch(model.latches);
        break;
      case 'release':
        model.latches = [];
        await rig.latch([]);
        break;
      case 'staleFence':
        await this.stale(one);
        break;
      case 'staleClaim':
        if (!one.lag) await this.catchUp();
        if (this.settled) await this.staleClaim(one);
        break;
      case 'again':
        // The first reason of a stop is kept, and an end is final.
        await this.caughtUp();
        if (model.state !== 'stopping' && !model.ended) break;
        await this.expectAnswer(
          async () => executions.stop(rig.id, { reason: 'server_shutdown', actor: 'somebody else' }),
          'NOTHING',
        );
        break;
      default:
        throw new Error(`no act ${one.what}`);
    }
    rig.twice = false;
    this.settled = false;
    // A stop between the steps of a retry leaves the nodes that were not reset yet as they were, a state that the model does
    // not have.
    if (!one.lag || one.what === 'retry') await this.catchUp();
    await rig.expectSound();
    await rig.expectEvents();
    if (this.settled) await rig.expectSame(model);
  }
}

it('R1 R2 R3 R9 R20 R22 R27 R33 R36 R40 any graph, any acts in any order, any of them twice: the product is where the model is', async () => {
  await expectProperty(
    fc.asyncProperty(graphs, acts, async (graph, chosen) => {
      await valkey.redis.flushall();
      const { spec, model } = specOf(graph);
      const rig = new GraphRig(valkey, graph.piece);
      await rig.create(spec, graph.start);
      if (graph.start) model.start();
      const walk = new Walk(rig, model);
      await walk.catchUp();
      await rig.expectSame(model);
      for (const one of chosen) await walk.take(one);
      await walk.catchUp();
      await rig.expectSame(model);
    }),
    60,
  );
}, 600_000);
