import { AgentQueues } from '#libs/dispatch';
import { AttemptEnds, DagExecutor, type StopNeeded } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { SILENT } from '#libs/service';
import type { AgentRunner } from '#libs/spawner';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import { OrphanReconciler } from './orphan-reconciler';
import { StoredEnds } from './stored-ends';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
/** A worker that has none of the attempts that are its own on record. */
const EMPTY = { slotsWhere: () => [], agentIds: () => [] } as unknown as AgentRunner;
const signal = new AbortController().signal;

let life: LifecycleService;
let queues: AgentQueues;
let dag: DagExecutor;
let orphans: OrphanReconciler;
const stops: StopNeeded[] = [];
useLife((rig) => ({ life } = rig));
beforeAll(() => {
  queues = new AgentQueues(life, { prefix: 'bull' });
  dag = new DagExecutor(life, queues);
  dag.stopNeeded$.subscribe((stop) => stops.push(stop));
  const ends = new AttemptEnds(life, dag);
  const stored = new StoredEnds(async (...end) => ends.end(...end));
  orphans = new OrphanReconciler(life, EMPTY, stored, ends, WORKER, SILENT, -1);
});
afterAll(async () => queues.close());

/** Claims everything of an execution that is ready, for that worker. */
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
