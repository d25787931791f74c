import { AgentQueues } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';
import { Janitor } from './janitor';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
let life: LifecycleService;
let queues: AgentQueues;
let janitor: Janitor;
useLife((rig) => ({ life } = rig));
beforeAll(() => {
  queues = new AgentQueues(life, { prefix: 'bull' });
  const dag = new DagExecutor(life, queues);
  const ends = new AttemptEnds(life, dag);
  janitor = new Janitor(life, queues, dag, ends, { intervalMs: 1, retentionMs: 60_000 });
});
afterAll(async () => queues.close());

describe('R26 R44 a worker that drained', () => {
  it('leaves to others what it could not store: its agents are lost like those of one whose lease ran out', async () => {
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

  it('and is forgotten where it owned nothing', async () => {
    const id = `${WORKER.slice(0, -1)}A`;
    await life.workers.register(id, { pools: 'default' }, 60_000);
    for (const state of ['running', 'draining', 'stopped'] as const) await life.workers.transition(id, state);
    expect(await life.workers.lost()).toEqual([id]);
    await janitor.sweep();
    expect(await life.workers.lost()).toEqual([]);
  });
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
