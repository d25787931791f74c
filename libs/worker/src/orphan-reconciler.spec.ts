import { AgentQueues } from '#libs/dispatch';
import { AttemptEnds, DagExecutor, type StopNeeded } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { SILENT } from '#libs/service';
import { OutcomeReplay, type AgentSlots } from '#libs/spawner';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import { OrphanReconciler } from './orphan-reconciler';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
/** A worker that runs none of the attempts that it owns on record. */
const EMPTY = { slotsWhere: () => [], agentIds: () => [] } as unknown as AgentSlots;
const signal = new AbortController().signal;

let life: LifecycleService;
let queues: AgentQueues;
let dag: DagExecutor;
let orphans: OrphanReconciler;
let stored: OutcomeReplay;
const stops: StopNeeded[] = [];
useLife((rig) => ({ life } = rig));
beforeAll(() => {
  queues = new AgentQueues(life, { prefix: 'bull' });
  dag = new DagExecutor(life, queues);
  dag.stopNeeded$.subscribe((stop) => stops.push(stop));
  const ends = new AttemptEnds(life, dag);
  stored = new OutcomeReplay(ends, life);
  orphans = new OrphanReconciler(life, EMPTY, stored, ends, { workerId: WORKER, lostAfterMs: -1 }, SILENT);
});
afterAll(async () => queues.close());

/** Claims every ready attempt of an execution for that worker. */
async function claimAll(id: string, owner = WORKER): Promise<string[]> {
  const jobs = await advanceAll(life, id);
  for (const job of jobs)
    expect(await life.agents.claim(job, owner, 'token')).toMatchObject({ claimed: true });
  return jobs.map(({ agentId }) => agentId);
}

describe('R9 R33 an attempt that its worker does not have any more', () => {
  it('is followed by another as its maxAttempts say, handed over at once', async () => {
    const id = await createExecution(life, spec([node('a', { maxAttempts: 2 })]));
    const [first = ''] = await claimAll(id);
    await orphans.look(signal);
    expect(await life.agents.get(first)).toMatchObject({ state: 'failed', error: { code: 'LOST_TRACK' } });
    expect((await life.executions.nodes(id)).items).toMatchObject([{ state: 'ready', attempt: 2 }]);
    const { keys, redis } = life.valkey;
    const next = first.replace(/1$/, '2');
    expect(await redis.exists(`bull:belay-agents-default:${next}`)).toBe(1);
    expect(await redis.hexists(keys.shard(keys.tagOf(id), 'outbox'), next)).toBe(1);
  });

  it('counts its attempts anew after a retry by hand', async () => {
    const id = await createExecution(life, spec([node('a', { maxAttempts: 2 })]));
    await claimAll(id);
    await orphans.look(signal);
    const second = `agt_${id.slice(4)}-0-2`;
    await life.agents.claim({ executionId: id, nodeId: 'a', agentId: second, attempt: 2 }, WORKER, 'token');
    await orphans.look(signal);
    expect(await life.executions.get(id)).toMatchObject({ state: 'failed' });
    await life.executions.retry(id, { retryId: 'again', actor: 'ann', force: false });
    await claimAll(id);
    await orphans.look(signal);
    expect((await life.executions.nodes(id)).items).toMatchObject([{ state: 'ready', attempt: 4 }]);
  });

  it('R20 that fails its node for good has the other agents of its execution stopped', async () => {
    const id = await createExecution(life, spec([node('a'), node('b')]));
    const [job, other] = await advanceAll(life, id);
    await life.agents.claim(job!, WORKER, 'token');
    await life.agents.claim(other!, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZY', 'token');
    await orphans.look(signal);
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopping' });
    expect(stops).toEqual([{ executionId: id, reason: 'error', by: 'belay' }]);
  });
});

describe('R25 R43 an end that a failover lost with the start before it', () => {
  const STARTED = { pid: 1, pidStartTime: '1', containment: 'marks' } as const;
  const DONE = { state: 'completed', exitCode: 0 } as const;

  /** Stores everything as it is now. The result restores it, like a replica that missed all later writes. */
  async function snapshot(): Promise<() => Promise<void>> {
    const { redis } = life.valkey;
    const kept: [string, Buffer][] = [];
    for (const key of await redis.keys('*')) {
      const value = await redis.dumpBuffer(key);
      if (value !== null) kept.push([key, value]);
    }
    return async () => {
      await redis.flushall();
      for (const [key, value] of kept) await redis.restore(key, 0, value);
    };
  }

  it('is stored again, and so is that of the next one', async () => {
    const [a, b] = [node('a'), node('b')];
    const id = await createExecution(life, spec([a, b]));
    const agents = await claimAll(id);
    const fences = await Promise.all(
      agents.map(async (agentId) => ({
        agentId,
        owner: WORKER,
        epoch: (await life.agents.get(agentId)).epoch,
      })),
    );
    const rewind = await snapshot();
    for (const [i, fence] of fences.entries()) {
      await life.agents.started(fence, STARTED);
      await stored.store(fence, DONE, i === 0 ? a : b, STARTED);
    }
    expect(await life.executions.get(id)).toMatchObject({ state: 'completed' });
    await rewind();
    expect(await life.agents.get(agents[0] ?? '')).toMatchObject({ state: 'spawning' });
    await orphans.look(signal);
    expect(await life.executions.get(id)).toMatchObject({ state: 'completed' });
  });

  it('is stored at once when only the start was lost', async () => {
    const a = node('a');
    const id = await createExecution(life, spec([a]));
    const [agentId = ''] = await claimAll(id);
    const { epoch } = await life.agents.get(agentId);
    await stored.store({ agentId, owner: WORKER, epoch }, DONE, a, STARTED);
    expect(await life.executions.get(id)).toMatchObject({ state: 'completed' });
  });
});
