import { AGENT_MACHINE, EXECUTION_MACHINE, isAllowed, NODE_MACHINE, statesOf } from '#libs/contracts';
import type { BelayEvent, DispatchEntry, ExecutionSpec, StateMachine } from '#libs/contracts';
import { retryVerdict } from '#libs/executions';
import { LifecycleService, type AgentOutcome, type Fence } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import type { End, GraphModel, Latched } from './graph-model';

const MACHINES: Record<string, StateMachine<string>> = {
  execution: EXECUTION_MACHINE,
  agent: AGENT_MACHINE,
  node: NODE_MACHINE,
};

/** The product under the model: real scripts on a real server, with calls repeated as after a lost reply. */
export class GraphRig {
  readonly life: LifecycleService;
  readonly fences = new Map<string, Fence>();
  /** The next script call is made twice, like a client repeats it after a lost reply. */
  twice = false;
  id = '';
  private latchVersion = 0;
  private seen: string[] = [];

  constructor(
    readonly valkey: Valkey,
    private readonly piece: number,
  ) {
    this.life = new LifecycleService(valkey, { retentionMs: 600_000 });
    const { shards } = this.life;
    const json = shards.json.bind(shards);
    const raw = shards.raw.bind(shards);
    shards.json = async (...call: Parameters<typeof json>) => {
      const [name, executionId, args = []] = call;
      // The last argument is the number of dependants that the script itself makes ready.
      const given = name === 'finishAgent' ? [...args.slice(0, -1), piece] : args;
      return this.repeated(name, async () => json(name, executionId, given));
    };
    shards.raw = async (name, executionId, args) =>
      this.repeated(name, async () => raw(name, executionId, args));
  }

  private async repeated<T>(name: string, call: () => Promise<T>): Promise<T> {
    // A repeated step is the next step.
    if (!this.twice || name === 'advanceExecution') return call();
    this.twice = false;
    const first = await call();
    // An agent's messages are rewritten unchanged, with a new version: nothing else may differ.
    const ofWrites = (dump: Record<string, unknown>): unknown =>
      name === 'reportAgent'
        ? JSON.parse(
            JSON.stringify(dump, (field, value: unknown) => (field === 'version' ? 0 : readable(value))),
          )
        : dump;
    const before = ofWrites(await this.dump());
    const second = await call();
    expect({ name, dump: ofWrites(await this.dump()) }).toEqual({ name, dump: before });
    // A repeat answers with the current state; everything else is the same word for word.
    if (name === 'claimNode') expect(second).toEqual(first);
    return second;
  }

  /**
   * Every key with its expiry: if this is unchanged, nothing was written. It leaves out the time of the next look at a ready
   * attempt, which a refused claim postpones.
   */
  async dump(): Promise<Record<string, unknown>> {
    const { redis } = this.valkey;
    const keys = (await redis.keys('*')).filter((key) => !/\}:(outbox:at|parked)$/.test(key)).sort();
    return Object.fromEntries(
      await Promise.all(
        keys.map(async (key) => [key, [await this.read(key), await redis.pexpiretime(key)]] as const),
      ),
    );
  }

  private async read(key: string): Promise<unknown> {
    const { redis } = this.valkey;
    const type = await redis.type(key);
    if (type === 'hash') return redis.hgetall(key);
    if (type === 'set') return (await redis.smembers(key)).sort();
    if (type === 'zset') return redis.zrange(key, 0, '-1', 'WITHSCORES');
    if (type === 'list') return redis.lrange(key, 0, -1);
    if (type === 'stream') return redis.xrange(key, '-', '+');
    return redis.get(key);
  }

  /** Only the record, the nodes, the agents and the events: a refusal must not change them. */
  async told(): Promise<Record<string, unknown>> {
    const of = /:exe:[^:]+(:(nodes|agents|events|results|deps|open|live|todo))?$|:events$|:own:/;
    return Object.fromEntries(Object.entries(await this.dump()).filter(([key]) => of.test(key)));
  }

  async create(spec: ExecutionSpec, start: boolean): Promise<void> {
    this.seen = [];
    const { id } = await this.life.executions.create(spec, { start, canonical: JSON.stringify(spec) });
    this.id = id;
  }

  async settle(): Promise<void> {
    for (let more = true, steps = 0; more; steps++) {
      ({ more } = await this.life.executions.advance(this.id, Math.max(1, this.piece)));
      expect(steps).toBeLessThan(500);
    }
  }

  /** The entries to hand to the queues, as a janitor would find them. */
  async outbox(): Promise<DispatchEntry[]> {
    const { redis, keys } = this.valkey;
    const tag = keys.tagOf(this.id);
    const entries = await redis.hgetall(keys.shard(tag, 'outbox'));
    const looks = await redis.zrange(keys.shard(tag, 'outbox:at'), 0, '-1');
    expect(looks.sort()).toEqual(Object.keys(entries).sort());
    return Object.values(entries)
      .map((text) => JSON.parse(text) as DispatchEntry)
      .sort((a, b) => (a.agentId < b.agentId ? -1 : 1));
  }

  outcome(end: End, agentId: string, model: GraphModel, result: string): AgentOutcome {
    const { nodeId, attempt } = model.agents.get(agentId)!;
    const node = model.node(nodeId);
    if (end === 'completed') return { state: 'completed', exitCode: 0, result };
    if (end === 'killed') return { state: 'killed', reason: 'killswitch' };
    const code = { failed: 'EXIT', never: 'ENOENT', lost: 'WORKER_LOST' }[end];
    const policy = {
      maxAttempts: node.maxAttempts,
      priorAttempts: node.prior,
      backoff: { type: 'fixed' as const, delayMs: 7, maxMs: 7, jitter: 0 },
    };
    const verdict = retryVerdict(policy, attempt, { error: { code, message: 'no' } }, 0);
    expect({ end, another: verdict !== undefined }).toEqual({ end, another: model.hasAnother(agentId, end) });
    return {
      state: 'failed',
      reason: end === 'lost' ? 'worker_lost' : 'error',
      error: { code, message: 'no' },
      ...(end === 'lost' ? { lost: true } : {}),
      ...verdict,
    };
  }

  async latch(latches: readonly Latched[]): Promise<void> {
    const { keys, scripts } = this.valkey;
    this.latchVersion++;
    const items = latches.map((scope, i) => ({
      id: `lat_${i}`,
      kind: 'latch',
      scope: scope.type === 'execution' ? { type: 'execution', executionId: this.id } : scope,
      by: 'test',
      engagedAt: 1,
    }));
    for (const tag of keys.tags())
      await scripts.json('copyLatches', keys.shard(tag, 'latches'), [
        tag,
        this.latchVersion,
        JSON.stringify(items),
        500,
      ]);
  }

  /** Every event was legal, numbered without a gap, and no earlier event has changed. */
  async expectEvents(): Promise<BelayEvent[]> {
    const events = await this.life.executions.events(this.id, '0-0', 10_000);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
    const texts = events.map((event) => JSON.stringify(event));
    expect(texts.slice(0, this.seen.length)).toEqual(this.seen);
    this.seen = texts;
    const states = new Map<string, string>();
    for (const { entity, nodeId, agentId, from, to, type } of events) {
      const machine = MACHINES[entity];
      if (machine === undefined || to === undefined) continue;
      const name = { execution: 'execution', node: `node ${nodeId}`, agent: `agent ${agentId}` }[
        entity as 'node'
      ];
      const was = states.get(name) ?? (entity === 'node' ? 'pending' : undefined);
      // Evidence for an end that was stored before is no other end.
      if (type === 'agent.proved') {
        expect([from, to]).toEqual([was, was]);
        continue;
      }
      expect({ name, type, from }).toEqual({ name, type: `${entity}.${to}`, from: was });
      if (from === undefined) expect({ name, to }).toEqual({ name, to: machine.initial });
      else expect({ name, from, to, allowed: isAllowed(machine, from, to) }).toMatchObject({ allowed: true });
      states.set(name, to);
    }
    const record = await this.life.executions.get(this.id);
    expect(states.get('execution')).toBe(record.state);
    for (const { id, state } of (await this.life.executions.nodes(this.id)).items)
      expect([id, states.get(`node ${id}`) ?? 'pending']).toEqual([id, state]);
    return events;
  }

  /** Invariants between two steps: the counts are those of the nodes, and each index has the right members. */
  async expectSound(): Promise<void> {
    const { executions, agents } = this.life;
    const record = await executions.get(this.id);
    const nodes = (await executions.nodes(this.id)).items;
    for (const state of statesOf(NODE_MACHINE))
      expect([state, record.nodes[state]]).toEqual([
        state,
        nodes.filter((node) => node.state === state).length,
      ]);
    expect(record.nodes.total).toBe(nodes.length);
    const all = await agents.list({ executionId: this.id });
    const live = all.filter(({ state }) => state === 'spawning' || state === 'running').map(({ id }) => id);
    expect(record.live).toBe(live.length);
    expect((await agents.liveOf(this.id)).map(({ id }) => id).sort()).toEqual(live.sort());
    expect((await agents.liveEverywhere()).map(({ id }) => id).sort()).toEqual(live.sort());
    expect((await this.outbox()).map(({ nodeId, attempt }) => `${nodeId} ${attempt}`).sort()).toEqual(
      nodes
        .filter(({ state }) => state === 'ready')
        .map(({ id, attempt }) => `${id} ${attempt}`)
        .sort(),
    );
    const { redis, keys } = this.valkey;
    const tag = keys.tagOf(this.id);
    for (const state of statesOf(EXECUTION_MACHINE)) {
      const listed = await redis.zscore(keys.shard(tag, `idx:exe:${state}`), this.id);
      expect([state, listed !== null]).toEqual([state, state === record.state]);
    }
    const due = await redis.zscore(keys.shard(tag, 'deadlines'), this.id);
    // The janitor removes it from a stop that it finds begun.
    if (record.state !== 'stopping')
      expect([record.state, due !== null]).toEqual([record.state, record.state === 'running']);
    const ended = ['completed', 'stopped', 'failed'].includes(record.state);
    // The specs of a completed execution are gone, since it is never retried.
    const specs = record.state === 'completed' ? [] : (['specs'] as const);
    expect(await redis.exists(keys.execution(this.id, 'specs'))).toBe(specs.length);
    for (const part of [undefined, 'nodes', ...specs, 'events'] as const)
      expect([part, (await redis.pttl(keys.execution(this.id, part))) > 0]).toEqual([part, ended]);
  }

  /**
   * A stop between two steps cancels nodes that the model had made ready before it: they were never begun, and only the number
   * of the attempt that never was differs. The model adopts the product's.
   */
  async adoptNeverBegun(model: GraphModel): Promise<void> {
    const stored = (await this.life.executions.nodes(this.id)).items;
    for (const node of model.nodes) {
      const wasBegun = [...model.agents.values()].some(
        ({ nodeId, attempt }) => nodeId === node.id && attempt === node.attempt,
      );
      const attempt = stored.find(({ id }) => id === node.id)?.attempt;
      if (node.state === 'cancelled' && !wasBegun && attempt === node.attempt - 1) node.attempt = attempt;
    }
  }

  /** Once everything has settled, the product has the model's state. */
  async expectSame(model: GraphModel): Promise<void> {
    const { executions, agents } = this.life;
    const record = await executions.get(this.id);
    const nodes = (await executions.nodes(this.id)).items;
    const known = await agents.list({ executionId: this.id });
    const results = await this.valkey.redis.hgetall(this.valkey.keys.execution(this.id, 'results'));
    expect({
      state: record.state,
      epoch: record.epoch,
      // The state of a stopped execution before its stop does not matter.
      frozen: ['running', 'paused'].includes(record.state) && record.frozen === true,
      cents: Math.round(record.costUsd * 100),
      live: record.live,
      nodes: Object.fromEntries(nodes.map(({ id, state, attempt }) => [id, `${state} ${attempt}`])),
      results: Object.fromEntries(
        Object.entries(results).map(([id, text]) => [id, JSON.parse(text) as string]),
      ),
      agents: Object.fromEntries(
        known.map((agent) => [agent.id, `${agent.state} ${agent.nodeId} ${agent.attempt} ${agent.owner}`]),
      ),
      unproved: (await agents.unproved()).map(({ id }) => id).sort(),
    }).toEqual({
      state: model.state,
      epoch: model.epoch,
      frozen: model.frozen,
      cents: model.cents,
      live: model.live.length,
      nodes: Object.fromEntries(model.nodes.map(({ id, state, attempt }) => [id, `${state} ${attempt}`])),
      results: Object.fromEntries(
        model.nodes.filter(({ result }) => result !== undefined).map(({ id, result }) => [id, result]),
      ),
      agents: Object.fromEntries(
        [...model.agents].map(([id, { state, nodeId, attempt, owner }]) => [
          id,
          `${state} ${nodeId} ${attempt} ${owner}`,
        ]),
      ),
      unproved: [...model.agents]
        .filter(([, { unproved }]) => unproved)
        .map(([id]) => id)
        .sort(),
    });
    if (model.state === 'stopping' || model.ended) expect(record.reason).toBe(model.reason);
  }
}

/** JSON inside a record, whose fields Lua writes in any order. */
function readable(value: unknown): unknown {
  return typeof value === 'string' && value.startsWith('{') ? (JSON.parse(value) as unknown) : value;
}
