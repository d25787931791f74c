import type { AgentJob, StopReport } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { createExecution, node, spec, startNext, stopReport, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';
import { Janitor } from './janitor';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
let life: LifecycleService;
let queues: AgentQueues;
let dag: DagExecutor;
let janitor: Janitor;
useLife((rig) => ({ life } = rig));
beforeAll(() => {
  queues = new AgentQueues(life, { prefix: 'bull' });
  dag = new DagExecutor(life, queues);
  const ends = new AttemptEnds(life, dag);
  janitor = new Janitor(life, queues, dag, ends, { intervalMs: 1, retentionMs: 60_000 });
});
afterAll(async () => queues.close());

describe('R26 R44 a worker that drained', () => {
  it('leaves ends that it could not store to others: its agents are lost like those of a worker whose lease ran out', async () => {
    const id = await createExecution(life, spec([node('a', { maxAttempts: 2 })]));
    const [job] = (await life.executions.advance(id)).entries;
    await life.workers.register(WORKER, { pools: 'default' }, 60_000);
    await life.workers.transition(WORKER, 'running');
    const claim = await life.agents.claim(job!, WORKER, 'token');
    if (!claim.claimed) throw new Error(claim.why);
    await life.workers.transition(WORKER, 'draining');
    await life.workers.transition(WORKER, 'stopped', { reason: 'forced' });
    await janitor.sweep();
    expect(await life.agents.get(job!.agentId)).toMatchObject({ state: 'failed', reason: 'worker_lost' });
    expect((await life.executions.nodes(id)).items).toMatchObject([{ state: 'ready', attempt: 2 }]);
    expect(await life.workers.lost()).toEqual([]);
  });

  it('R29 counts as heard of when it registered, where it was lost before its first heartbeat', async () => {
    const id = await createExecution(
      life,
      spec([node('a', { maxAttempts: 2, recovery: { auto: true, withinMs: 1 } })]),
    );
    const [job] = (await life.executions.advance(id)).entries;
    const worker = `${WORKER.slice(0, -1)}F`;
    await life.workers.register(worker, { pools: 'default' }, 60_000);
    await life.workers.transition(worker, 'running');
    const claim = await life.agents.claim(job!, worker, 'token');
    if (!claim.claimed) throw new Error(claim.why);
    await life.workers.transition(worker, 'draining');
    await life.workers.transition(worker, 'stopped', { reason: 'forced' });
    const { createdAt } = await life.workers.get(worker);
    await eventually(
      async () => (await life.valkey.timeAt(life.valkey.keys.worker(worker))) > createdAt + 5,
      'longer than withinMs',
    );
    await janitor.sweep();
    expect((await life.executions.nodes(id)).items).toMatchObject([
      { state: 'failed', error: { code: 'RECOVERY_TOO_LATE' } },
    ]);
  });

  it('and is forgotten where it owned nothing', async () => {
    const id = `${WORKER.slice(0, -1)}A`;
    await life.workers.register(id, { pools: 'default' }, 60_000);
    for (const state of ['running', 'draining', 'stopped'] as const) await life.workers.transition(id, state);
    expect(await life.workers.lost()).toEqual([id]);
    await janitor.sweep();
    expect(await life.workers.lost()).toEqual([]);
  });
});

/** A wait that ends when the test says so. */
function gate(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve: () => resolve() };
}

/** A deadline that has passed, of an execution of the shard `tag`. */
async function passedDeadline(tag: string): Promise<string> {
  const { keys } = life.valkey;
  for (;;) {
    const id = await createExecution(life, { ...spec([node('a')]), timeoutMs: 1 });
    if (keys.tagOf(id) === tag) return id;
  }
}

const isStopped = async (id: string): Promise<boolean> =>
  (await life.executions.get(id)).reason === 'timeout';

describe('R39 a deadline that passes', () => {
  /** Lets the janitor run until it hangs, and then a deadline pass in each of the shards. */
  async function expectKeptDuring(hang: { resolve: () => void }, begun: jest.SpyInstance, times: number) {
    janitor.start();
    try {
      await eventually(() => begun.mock.calls.length === times, 'the work that hangs');
      for (const tag of life.valkey.keys.tags()) {
        const id = await passedDeadline(tag);
        await eventually(async () => isStopped(id), 'the stop');
      }
      // It is not begun a second time beside itself.
      expect(begun).toHaveBeenCalledTimes(times);
    } finally {
      hang.resolve();
      await janitor.stop();
      begun.mockRestore();
    }
  }

  it('while the look at the leases hangs is kept', async () => {
    const hang = gate();
    const asked = jest.spyOn(life.workers, 'leases').mockReturnValue(hang.promise.then(() => []));
    await expectKeptDuring(hang, asked, 1);
  });

  it('while the hand-overs of every shard hang is kept', async () => {
    const hang = gate();
    const swept = jest.spyOn(queues, 'sweep').mockReturnValue(hang.promise.then(() => 0));
    await expectKeptDuring(hang, swept, life.valkey.keys.tags().length);
  });
});

it('R46 the time since the last pass is that of the sweep which has waited longest', async () => {
  const hang = gate();
  const asked = jest.spyOn(life.workers, 'leases').mockReturnValue(hang.promise.then(() => []));
  janitor.start();
  await eventually(() => janitor.sincePassMs > 60, 'a sweep that hangs shows');
  expect(asked).toHaveBeenCalledTimes(1);
  hang.resolve();
  await eventually(() => janitor.sincePassMs < 50, 'every sweep has succeeded');
  await janitor.stop();
  asked.mockRestore();
});

it('R39 a stop without an order is found behind a hundred that have theirs', async () => {
  const { keys, redis } = life.valkey;
  const [tag = ''] = keys.tags();
  const index = keys.shard(tag, 'idx:exe:stopping');
  const requested = jest.spyOn(dag, 'requestStop').mockImplementation(() => undefined);
  const late = await passedDeadline(tag);
  const { entries } = await life.executions.advance(late);
  const claim = await life.agents.claim(entries[0]!, `${WORKER.slice(0, -1)}G`, 'token');
  if (!claim.claimed) throw new Error(claim.why);
  await life.executions.stop(late, { reason: 'timeout', actor: 'belay' });
  // Older ones, of which no agent lives.
  for (let i = 0; i < 100; i++) await redis.zadd(index, 0, `exe_older${i}`);
  for (let pass = 0; pass < 2; pass++) await janitor.sweep();
  const asked = requested.mock.calls.filter(([{ executionId }]) => executionId === late);
  expect(asked).toEqual([[{ executionId: late, reason: 'timeout', by: 'belay' }]]);
  for (let i = 0; i < 100; i++) await redis.zrem(index, `exe_older${i}`);
  requested.mockRestore();
});

it('R46 R47 a stop ends the pass after its step, however many shards are left', async () => {
  const { promise, resolve } = gate();
  const asked = jest.spyOn(life.workers, 'leases').mockImplementation(async () => promise.then(() => []));
  const { held } = life.valkey.quarantine;
  const shards = jest.spyOn(life.valkey.quarantine, 'held').mockImplementation(async function (
    this: never,
    tag,
  ) {
    await promise;
    return held.call(life.valkey.quarantine, tag);
  });
  janitor.start();
  const all = life.valkey.keys.tags().length;
  await eventually(() => asked.mock.calls.length === 1 && shards.mock.calls.length === all, 'a pass');
  const stopping = janitor.stop();
  const scripts = jest.spyOn(life.valkey.scripts, 'run');
  resolve();
  await stopping;
  asked.mockRestore();
  shards.mockRestore();
  // It gives its locks back, and nothing else.
  expect(scripts.mock.calls.map(([name]) => name).filter((name) => name !== 'acquireShardLock')).toEqual([]);
  scripts.mockRestore();
  // It may be started again.
  janitor.start();
  await eventually(async () => janitor.sincePassMs < 50, 'a whole pass');
  await janitor.stop();
});

describe('R23 nodes whose signal did not come in time', () => {
  /** An execution of the shard of `like`, whose only node is suspended and due. */
  async function overdue(like?: string): Promise<string> {
    const { keys } = life.valkey;
    for (;;) {
      const id = await createExecution(life, spec([node('a')]));
      if (like !== undefined && keys.tagOf(id) !== keys.tagOf(like)) continue;
      const { fence } = await startNext(life, id, `${WORKER.slice(0, -1)}S`);
      const suspend = { name: 'approved', maxAgeMs: 1 };
      await life.agents.finish(fence, { state: 'completed', exitCode: 0, suspend });
      const places = keys.shard(keys.tagOf(id), 'suspended');
      const until = await life.valkey.timeAt(places);
      await eventually(async () => (await life.valkey.timeAt(places)) > until + 1, 'its deadline');
      return id;
    }
  }

  /** Damages that execution, or its nodes' records, so that no place of it can be expired. */
  const damages: Record<string, (id: string, nodeIds: readonly string[]) => Promise<unknown>> = {
    'whose execution cannot be read': async (id) => {
      const key = life.valkey.keys.execution(id);
      await life.valkey.redis.del(key);
      return life.valkey.redis.set(key, 'x');
    },
    'whose own records cannot be read': async (id, nodeIds) =>
      life.valkey.redis.hset(
        life.valkey.keys.execution(id, 'nodes'),
        Object.fromEntries(nodeIds.map((nodeId) => [nodeId, '{broken'])),
      ),
  };

  it.each(Object.keys(damages))(
    'fail, although more than a batch of nodes are before them %s',
    async (damage) => {
      const broken = await overdue();
      const other = await overdue(broken);
      const { redis, keys } = life.valkey;
      const places = keys.shard(keys.tagOf(broken), 'suspended');
      const nodeIds = Array.from({ length: 350 }, (_, i) => `n${i}`);
      for (const nodeId of nodeIds) await redis.zadd(places, 1, `${broken}\t${nodeId}`);
      await damages[damage]?.(broken, nodeIds);
      const expired = async (): Promise<boolean> =>
        (await life.executions.node(other, 'a')).error?.code === 'SUSPENDED_TOO_LONG';
      // A pass lists a batch of the damaged records; the places stay, since a person may repair them.
      for (let pass = 0; pass < 6 && !(await expired()); pass++) await janitor.sweep();
      expect(await expired()).toBe(true);
      expect(await redis.zcard(places)).toBeGreaterThanOrEqual(nodeIds.length);
    },
  );
});

describe('R26 R27 a server whose clock steps forward', () => {
  it('expires no lease that is renewed; one that is not is taken after its whole length', async () => {
    const id = `${WORKER.slice(0, -1)}B`;
    const { keys, redis } = life.valkey;
    await life.workers.register(id, { pools: 'default' }, 300);
    await life.workers.transition(id, 'running');
    await janitor.sweep();
    // An hour later by the server's clock.
    await redis.zincrby(keys.shard(keys.control, 'leases'), -3_600_000, id);
    await janitor.sweep();
    expect((await life.workers.get(id)).state).toBe('running');
    await life.workers.heartbeat(id, 300, 0);
    const begun = performance.now();
    await janitor.sweep();
    while ((await life.workers.get(id)).state === 'running') await janitor.sweep();
    expect(performance.now() - begun).toBeGreaterThanOrEqual(300);
    expect(await life.workers.get(id)).toMatchObject({ state: 'stopped', reason: 'worker_lost' });
  });
});

describe('R26 R51 a worker whose lease ran out', () => {
  const REPORT = stopReport({ evidence: [{ kind: 'sweep-empty', afterMs: 1 }] });

  async function nextJob(): Promise<AgentJob> {
    const id = await createExecution(life, spec([node('a')]));
    return (await life.executions.advance(id)).entries[0]!;
  }

  /** An attempt whose worker's lease has run out, and whose loss the janitor has handled. */
  async function lost(worker: string, proof?: StopReport): Promise<string> {
    const job = await nextJob();
    await life.workers.register(worker, { pools: 'default' }, 20);
    await life.workers.transition(worker, 'running');
    const claim = await life.agents.claim(job, worker, 'token');
    if (!claim.claimed) throw new Error(claim.why);
    if (proof !== undefined) await life.workers.saveProof(worker, proof);
    await eventually(async () => {
      await janitor.sweep();
      return (await life.agents.get(job.agentId)).state === 'failed';
    }, 'the loss');
    return job.agentId;
  }

  it('leaves attempts that may still run: they count as unproved until somebody proves them dead', async () => {
    const worker = `${WORKER.slice(0, -1)}C`;
    const agentId = await lost(worker);
    expect(await life.agents.get(agentId)).not.toHaveProperty('report');
    expect((await life.agents.unproved(worker)).map(({ id }) => id)).toEqual([agentId]);
    await life.workers.saveProof(worker, REPORT);
    await janitor.sweep();
    expect(await life.agents.unproved(worker)).toEqual([]);
    expect((await life.agents.get(agentId)).report).toEqual(REPORT);
  });

  it('leaves none where its processes were seen dead before', async () => {
    const worker = `${WORKER.slice(0, -1)}D`;
    const agentId = await lost(worker, REPORT);
    expect(await life.agents.unproved(worker)).toEqual([]);
    expect(await life.agents.get(agentId)).toMatchObject({ reason: 'worker_lost', report: { proved: true } });
  });

  it('claims nothing any more, should it only have slept', async () => {
    const worker = `${WORKER.slice(0, -1)}E`;
    await lost(worker);
    expect(await life.agents.claim(await nextJob(), worker, 'token')).toMatchObject({
      claimed: false,
      why: 'GONE',
    });
  });
});

it('R39 an execution that passes its deadline is stopped, one without a deadline is not', async () => {
  const late = await createExecution(life, spec([node('a')], { timeoutMs: 1 }));
  const other = await createExecution(life, spec([node('a')]));
  await eventually(
    async () => {
      await janitor.sweep();
      return (await life.executions.get(late)).state === 'stopped';
    },
    'the stop',
    10_000,
  );
  expect(await life.executions.get(late)).toMatchObject({ reason: 'timeout', actor: 'belay' });
  expect(await life.executions.get(other)).toMatchObject({ state: 'running' });
});
