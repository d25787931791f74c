import type { Valkey } from '#libs/valkey';
import {
  advanceAll,
  createExecution,
  node,
  spec,
  startNext,
  stopReport,
  useLife,
  type StartedAgent,
} from '../../../test/support/life';
import { until } from '../../../test/support/wait';
import type { Claim, LifecycleService } from './index';

let life: LifecycleService;
let valkey: Valkey;
useLife((rig) => ({ life, valkey } = rig));
beforeEach(async () => valkey.redis.flushall());

const WEEK = { name: 'approved', maxAgeMs: 604_800_000 };
const SOON = { name: 'approved', maxAgeMs: 100 };
let requests = 0;
const signal = async (id: string, name = 'approved', payload: unknown = { by: 'ann', list: [] }) =>
  life.executions.signal(id, { name, payload, by: 'ann', requestId: `r${++requests}` });

/** An execution whose first node was started and then suspended. */
async function suspended(nodes = [node('a')], suspend = WEEK, over = {}): Promise<StartedAgent> {
  const agent = await startNext(life, await createExecution(life, spec(nodes, over)));
  await life.agents.finish(agent.fence, { state: 'completed', exitCode: 0, suspend, result: 'none' });
  return agent;
}

async function claim(entry: unknown): Promise<Extract<Claim, { claimed: true }>> {
  const claimed = await life.agents.claim(entry as never, 'wrk_01HYYYYYYYYYYYYYYYYYYYYYYY', `t${++requests}`);
  if (!claimed.claimed) throw new Error(claimed.why);
  await life.agents.started(claimed.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  return claimed;
}

async function untilPassed(at: number): Promise<void> {
  const key = valkey.keys.shard(valkey.keys.control, 'settings');
  await until(async () => (await valkey.timeAt(key)) >= at, 'the limit');
}

describe('R23 a node that suspends itself', () => {
  it('has no process, no slot and no place, and goes on with the payload of its signal', async () => {
    const { id, agentId } = await suspended([node('a', { maxAttempts: 1 }), node('b', { dependsOn: ['a'] })]);
    expect(await life.executions.get(id)).toMatchObject({
      state: 'running',
      live: 0,
      nodes: { suspended: 1, pending: 1 },
    });
    expect(await life.executions.node(id, 'a')).toMatchObject({
      state: 'suspended',
      waitsFor: { signal: 'approved', untilAt: expect.any(Number) },
    });
    expect(await life.agents.get(agentId)).toMatchObject({ state: 'completed' });
    expect(await advanceAll(life, id)).toEqual([]);
    const { woken, kept, entries } = await signal(id);
    expect([woken, kept]).toEqual([['a'], false]);
    expect(entries).toMatchObject([{ nodeId: 'a', attempt: 2, delayMs: 0 }]);
    const next = await claim(entries[0]);
    expect(next.wokenBy).toEqual({ name: 'approved', payload: { by: 'ann', list: [] } });
    // A wait is no failure, so the count of attempts begins anew.
    expect(next.node.priorAttempts).toBe(1);
    const { entries: after } = await life.agents.finish(next.fence, { state: 'completed', result: 7 });
    expect(after).toMatchObject([{ nodeId: 'b' }]);
    expect((await claim(after[0])).wokenBy).toBeUndefined();
    expect(await life.executions.node(id, 'a')).not.toHaveProperty('waitsFor');
    const types = (await life.executions.events(id, '0-0')).map(({ type }) => type);
    expect(types.filter((type) => /suspended|signalled/.test(type))).toEqual([
      'node.suspended',
      'execution.signalled',
    ]);
  });

  it('begins again without its signal when a person retries it after a kill', async () => {
    const { id } = await suspended();
    const { entries } = await signal(id);
    const woken = await claim(entries[0]);
    await life.executions.stop(id, { reason: 'user_abort', actor: 'ann' });
    await life.agents.finish(woken.fence, { state: 'killed', reason: 'user_abort', report: stopReport() });
    await life.executions.retry(id, { actor: 'ann', retryId: `r${++requests}`, force: false });
    const [again] = await advanceAll(life, id);
    expect((await claim(again)).wokenBy).toBeUndefined();
  });

  it('is given a signal that came before it waited', async () => {
    const { id, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    expect(await signal(id)).toMatchObject({ woken: [], kept: true });
    const { entries, node: state } = await life.agents.finish(fence, { state: 'completed', suspend: WEEK });
    expect(state).toBe('ready');
    expect((await claim(entries[0])).wokenBy).toMatchObject({ name: 'approved' });
    expect(await signal(id)).toMatchObject({ kept: true });
  });

  it('is woken once by a signal that is sent twice', async () => {
    const { id } = await suspended();
    const request = { name: 'approved', payload: 1, by: 'ann', requestId: 'same' };
    const first = await life.executions.signal(id, request);
    const second = await life.executions.signal(id, request);
    expect([first.woken, first.kept, first.entries.length]).toEqual([['a'], false, 1]);
    expect([second.woken, second.kept, second.entries.length]).toEqual([['a'], false, 0]);
  });

  it('is woken by its own signal, with all others that wait for it', async () => {
    const { id } = await suspended([node('a'), node('b'), node('c')]);
    for (const [suspend, wait] of [
      [WEEK, 'b'],
      [{ ...WEEK, name: 'paid' }, 'c'],
    ] as const) {
      const entry = {
        executionId: id,
        nodeId: wait,
        agentId: `agt_${id.slice(4)}-${wait === 'b' ? 1 : 2}-1`,
        attempt: 1,
      };
      const { fence } = await claim(entry);
      await life.agents.finish(fence, { state: 'completed', suspend });
    }
    expect((await signal(id)).woken).toEqual(['a', 'b']);
    expect((await signal(id, 'other')).kept).toBe(true);
    expect((await signal(id, 'paid', null)).woken).toEqual(['c']);
  });

  it('fails once it has waited too long, and its dependants are skipped', async () => {
    const { id } = await suspended([node('a'), node('b', { dependsOn: ['a'] })], SOON);
    const { waitsFor: { untilAt = 0 } = {} } = await life.executions.node(id, 'a');
    await untilPassed(untilAt);
    await life.executions.expireSuspended(id, 'a');
    await advanceAll(life, id);
    expect(await life.executions.node(id, 'a')).toMatchObject({
      state: 'failed',
      error: { code: 'SUSPENDED_TOO_LONG', message: 'No signal approved came in time.' },
    });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'failed',
      error: { code: 'SUSPENDED_TOO_LONG' },
    });
    await expect(signal(id)).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
    // A repeat changes nothing, and neither does the expiry of an execution that is gone.
    expect(await life.executions.expireSuspended(id, 'a')).toMatchObject({ entries: [], stopNeeded: false });
    await expect(
      life.executions.expireSuspended('exe_01HZXW3V9K8Q2M4N6P7R5S0T1A', 'a'),
    ).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('does not fail before, and an allowed failure lets the others go on', async () => {
    const early = await suspended();
    await life.executions.expireSuspended(early.id, 'a');
    expect(await life.executions.node(early.id, 'a')).toMatchObject({ state: 'suspended' });
    const { id } = await suspended(
      [node('a', { allowFailure: true }), node('b', { dependsOn: ['a'] })],
      SOON,
    );
    const { waitsFor: { untilAt = 0 } = {} } = await life.executions.node(id, 'a');
    await untilPassed(untilAt);
    expect((await life.executions.expireSuspended(id, 'a')).entries).toMatchObject([{ nodeId: 'b' }]);
  });

  it('that fails while others run stops them, as any failure', async () => {
    const { id } = await suspended([node('a'), node('b')], SOON);
    await claim({ executionId: id, nodeId: 'b', agentId: `agt_${id.slice(4)}-1-1`, attempt: 1 });
    const { waitsFor: { untilAt = 0 } = {} } = await life.executions.node(id, 'a');
    await untilPassed(untilAt);
    expect(await life.executions.expireSuspended(id, 'a')).toMatchObject({ stopNeeded: true });
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopping' });
  });

  it('is cancelled by a stop, and begins anew with a retry', async () => {
    const { id } = await suspended();
    await life.executions.stop(id, { reason: 'user_abort', actor: 'ann' });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', nodes: { cancelled: 1 } });
    await life.executions.retry(id, { retryId: 'r', actor: 'ann', force: false });
    const entries = await advanceAll(life, id);
    expect((await claim(entries[0])).wokenBy).toBeUndefined();
    expect(await signal(id)).toMatchObject({ woken: [], kept: true });
  });

  it('that asks for it while its execution stops is cancelled', async () => {
    const { id, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    await life.executions.stop(id, { reason: 'user_abort', actor: 'ann' });
    await life.agents.finish(fence, { state: 'completed', suspend: WEEK });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopped',
      nodes: { cancelled: 1, suspended: 0 },
    });
  });

  it('an execution takes at most 10,000 signals', async () => {
    const { id } = await suspended();
    await valkey.redis.hset(valkey.keys.execution(id), 'signals', 10_000);
    await expect(signal(id)).rejects.toMatchObject({
      code: 'TOO_MANY_SIGNALS',
      message: `${id} was sent 10000 signals, and takes no more.`,
    });
  });
});
