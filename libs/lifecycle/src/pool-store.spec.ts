import { conditionsOf, type DispatchEntry } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { advanceAll, createExecution, node, spec, startNext, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;
useLife((rig) => ({ valkey, life } = rig));
beforeEach(async () => valkey.redis.flushall());

const WHY = { actor: 'ann', note: 'not needed', isDry: false };
const poolKeys = async (): Promise<string[]> =>
  (await valkey.redis.keys('*')).filter((key) => /:(wait|live):|:pools$/.test(key));

describe('R34 the counts of a pool', () => {
  it('add up over shards and states, and nothing is left of a pool that has nothing', async () => {
    expect(await life.pools.counts()).toEqual([]);
    const slow = node('c', { pool: 'gpu', delayMs: 3_600_000 });
    const ids = await Promise.all(
      Array.from({ length: 6 }, async () =>
        createExecution(life, spec([node('a'), node('b', { pool: 'gpu' }), slow])),
      ),
    );
    const started = await startNext(life, ids[0]!);
    for (const id of ids.slice(1)) await advanceAll(life, id);
    expect(await life.pools.counts()).toEqual([
      { pool: 'default', waiting: 5, delayed: 0, active: 1, oldestMs: expect.any(Number) },
      { pool: 'gpu', waiting: 6, delayed: 6, active: 0, oldestMs: expect.any(Number) },
    ]);
    await life.agents.finish(started.fence, { state: 'completed' });
    for (const id of ids) {
      await life.executions.stop(id, { reason: 'user_abort' });
      await advanceAll(life, id);
    }
    expect(await life.pools.counts()).toEqual([]);
    expect(await poolKeys()).toEqual([]);
  });

  it('say nothing of an age where nothing may be claimed yet', async () => {
    for (let i = 0; i < 8; i++)
      await advanceAll(life, await createExecution(life, spec([node('a', { delayMs: 3_600_000 })])));
    expect(await life.pools.counts()).toEqual([{ pool: 'default', waiting: 0, delayed: 8, active: 0 }]);
  });

  it('leave out the pools that one worker has for its drills', async () => {
    const id = await createExecution(life, spec([node('a', { pool: '@wrk_1' })]));
    await advanceAll(life, id);
    expect(await life.pools.counts()).toEqual([]);
  });
});

describe('R34 attempts that wait in a pool', () => {
  const submit = async (over: Parameters<typeof spec>[1] = {}): Promise<[string, DispatchEntry[]]> => {
    const nodes = [node('a', { labels: { size: 'large' } }), node('b'), node('c', { dependsOn: ['a'] })];
    const id = await createExecution(life, spec(nodes, over));
    return [id, await advanceAll(life, id)];
  };

  it('is removed with an error that says so; its dependants are skipped, and the rest goes on where the spec says continue', async () => {
    const [id, [a]] = await submit({ onFailure: 'continue' });
    const tag = valkey.keys.tagOf(id);
    expect(await life.pools.waiting(tag, 'default', 0, 1)).toHaveLength(1);
    expect(await life.pools.remove(a!.agentId, 'default', { ...WHY, isDry: true })).toMatchObject({
      removed: true,
    });
    expect(await life.pools.waiting(tag, 'default', 0, 10)).toHaveLength(2);
    expect(await life.pools.remove(a!.agentId, 'default', WHY)).toMatchObject({ removed: true, more: true });
    expect(await life.pools.remove(a!.agentId, 'default', WHY)).toMatchObject({ removed: false });
    await advanceAll(life, id);
    const { items } = await life.executions.nodes(id);
    expect(items.map(({ state }) => state)).toEqual(['cancelled', 'ready', 'skipped']);
    expect(items[0]).toMatchObject({ reason: 'user_abort', error: { code: 'REMOVED' } });
    expect(await life.executions.get(id)).toMatchObject({ state: 'running', error: { code: 'REMOVED' } });
    expect(await life.agents.claim(a!, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ', 't')).toMatchObject({
      why: 'TAKEN',
    });
  });

  it('stops its execution where the spec says stop, and live agents need an order', async () => {
    const id = await createExecution(life, spec([node('a'), node('b')]));
    const started = await startNext(life, id);
    const [waits] = await life.pools.waiting(valkey.keys.tagOf(id), 'default', 0, 10);
    const removed = await life.pools.remove(waits!, 'default', WHY);
    expect(removed).toEqual({ removed: true, stopNeeded: true, more: true });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopping',
      reason: 'user_abort',
      actor: 'ann',
      note: 'not needed',
    });
    await life.agents.finish(started.fence, { state: 'killed' });
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', error: { code: 'REMOVED' } });
  });

  it('is removed by its labels, by its pool, and not once it is claimed', async () => {
    const [id, [a, b]] = await submit({ labels: { team: 'data' } });
    const requires = conditionsOf('team=data,size=large');
    expect(await life.pools.remove(b!.agentId, 'default', { ...WHY, requires })).toMatchObject({
      removed: false,
    });
    expect(await life.pools.remove(b!.agentId, 'gpu', WHY)).toMatchObject({ removed: false });
    await life.agents.claim(b!, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ', 't');
    expect(await life.pools.remove(b!.agentId, 'default', WHY)).toMatchObject({ removed: false });
    expect(await life.pools.remove(a!.agentId, 'default', { ...WHY, requires })).toMatchObject({
      removed: true,
    });
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopping' });
  });

  it('under a record that was removed by hand is forgotten', async () => {
    const [id, [a]] = await submit();
    const tag = valkey.keys.tagOf(id);
    await valkey.redis.del(valkey.keys.execution(id));
    expect(await life.pools.remove(a!.agentId, 'default', WHY)).toMatchObject({ removed: false });
    expect(await life.pools.waiting(tag, 'default', 0, 10)).toHaveLength(1);
  });
});
