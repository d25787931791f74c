import type { Valkey } from '#libs/valkey';
import { node, spec, stopReport, useLife } from '../../../test/support/life';
import { LifecycleService } from './lifecycle.service';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const DAY_MS = 86_400_000;
let valkey: Valkey;
let life: LifecycleService;

useLife((rig) => ({ valkey, life } = rig));

async function begin(...nodes: Parameters<typeof spec>[0]) {
  const made = spec(nodes, { onFailure: 'continue' });
  const { id } = await life.executions.create(made, {
    start: true,
    canonical: JSON.stringify(made),
    actor: 'ann',
  });
  const { entries } = await life.executions.advance(id);
  const job = entries[0] as (typeof entries)[number];
  const granted = await life.agents.claim(job, WORKER, 'token');
  if (!granted.claimed) throw new Error(granted.why);
  return { id, job, fence: granted.fence };
}

/** Lets time of the server pass, so that a second write would differ. */
async function tick(): Promise<void> {
  const from = await valkey.timeAt(valkey.keys.control);
  while ((await valkey.timeAt(valkey.keys.control)) <= from + 1) await valkey.redis.ping();
}

describe('R5 the fields that records keep', () => {
  it('times are the server’s, although the writer’s clock is a day ahead', async () => {
    const real = Date.now;
    const skewed = jest.spyOn(Date, 'now').mockImplementation(() => real() + DAY_MS);
    try {
      const from = await valkey.timeAt(valkey.keys.control);
      const { id, job, fence } = await begin(node('a'));
      await life.agents.started(fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
      await life.agents.finish(fence, { state: 'completed' });
      await life.workers.register('wrk_skewed', { pools: 'a' }, 60_000);
      await life.workers.transition('wrk_skewed', 'running');
      await life.workers.transition('wrk_skewed', 'draining');
      await life.workers.transition('wrk_skewed', 'stopped');
      const until = await valkey.timeAt(valkey.keys.control);
      const execution = await life.executions.get(id);
      const agent = await life.agents.get(job.agentId);
      const worker = await life.workers.get('wrk_skewed');
      const events = await life.executions.events(id, '0-0');
      for (const at of [
        execution.createdAt,
        execution.startedAt,
        execution.completedAt,
        agent.createdAt,
        agent.startedAt,
        agent.completedAt,
        worker.createdAt,
        worker.startedAt,
        worker.stoppedAt,
        ...events.map((event) => event.at),
      ]) {
        expect(at).toBeGreaterThanOrEqual(from);
        expect(at).toBeLessThanOrEqual(until);
      }
    } finally {
      skewed.mockRestore();
    }
  });

  it('each is set once: a repeat, or a later different value, changes none of them', async () => {
    const { id, job, fence } = await begin(node('a'));
    await life.agents.started(fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
    const started = (await life.agents.get(job.agentId)).startedAt;
    const began = (await life.executions.get(id)).startedAt;
    await tick();
    await life.agents.started(fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
    await life.executions.pause(id, { mode: 'drain', actor: 'bob' });
    await life.executions.resume(id, 'bob');
    expect((await life.agents.get(job.agentId)).startedAt).toBe(started);
    expect((await life.executions.get(id)).startedAt).toBe(began);
    // The record names the first stop: its actor, reason and order.
    await life.executions.stop(id, { reason: 'user_abort', actor: 'ann', note: 'enough', orderId: 'ord_1' });
    await tick();
    await life.executions.stop(id, { reason: 'killswitch', actor: 'bob', note: 'me too', orderId: 'ord_2' });
    await life.agents.finish(fence, {
      state: 'killed',
      reason: 'user_abort',
      actor: 'ann',
      orderId: 'ord_1',
    });
    const execution = await life.executions.get(id);
    const agent = await life.agents.get(job.agentId);
    expect(execution).toMatchObject({
      state: 'stopped',
      reason: 'user_abort',
      actor: 'ann',
      note: 'enough',
      orderId: 'ord_1',
    });
    expect(agent).toMatchObject({
      state: 'killed',
      reason: 'user_abort',
      actor: 'ann',
      owner: WORKER,
      attempt: 1,
      epoch: fence.epoch,
    });
    await tick();
    await life.agents.finish(fence, { state: 'killed', reason: 'killswitch', actor: 'bob' });
    await life.executions.stop(id, { reason: 'killswitch', actor: 'bob' });
    expect(await life.executions.get(id)).toEqual(execution);
    expect(await life.agents.get(job.agentId)).toEqual(agent);
  });

  it('a failure keeps its error, of the agent, its node and the execution', async () => {
    const error = { code: 'EXIT', message: 'Exited with code 7.' };
    const { id, job, fence } = await begin(node('a'));
    await life.agents.finish(fence, { state: 'failed', reason: 'error', error, exitCode: 7 });
    expect(await life.agents.get(job.agentId)).toMatchObject({ reason: 'error', error, exitCode: 7 });
    expect(await life.executions.node(id, 'a')).toMatchObject({ error });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'failed',
      reason: 'error',
      error: { ...error, nodeId: 'a' },
    });
  });

  it('the report of a stop is read as it was told, also where it says most or nothing', async () => {
    const seen = { pid: 7, startTime: '70', command: 'sh' };
    const quiet = stopReport();
    const loud = stopReport({
      proved: false,
      processes: [seen],
      signals: [{ signal: 'SIGKILL', to: 'process', pid: 7, afterMs: 3 }],
      survivors: [seen],
      escalated: true,
      provedAfterMs: 4,
    });
    for (const report of [quiet, loud]) {
      const { job, fence } = await begin(node('a'));
      await life.agents.finish(fence, { state: 'killed', reason: 'killswitch', report });
      expect((await life.agents.get(job.agentId)).report).toEqual(report);
      expect((await life.agents.named([job.agentId]))[0]?.report).toEqual(report);
    }
  });
});
