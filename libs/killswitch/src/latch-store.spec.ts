import type { DispatchEntry } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec } from '../../../test/support/life';
import { LatchStore, newLatch } from './latch-store';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
let valkey: Valkey;
let life: LifecycleService;
let latches: LatchStore;
let settings: KillswitchRig['settings'];
useKillswitch((rig) => ({ valkey, life, latches, settings } = rig));

/** An attempt that a latch over everything has parked. */
async function parked(): Promise<{ latchId: string; dueInMs: () => Promise<number> }> {
  const id = await createExecution(life, spec([node('a')]));
  const entry = (await life.executions.advance(id)).entries[0] as DispatchEntry;
  const { id: latchId } = await latches.engage(newLatch('latch', { type: 'all' }, { by: 'ann' }));
  expect(await life.agents.claim(entry, WORKER, 'token')).toMatchObject({ why: 'LATCHED' });
  const key = valkey.keys.shard(valkey.keys.tagOf(id), 'outbox:at');
  const dueInMs = async (): Promise<number> =>
    Number(await valkey.redis.zscore(key, entry.agentId)) - (await valkey.timeAt(key));
  expect(await dueInMs()).toBeGreaterThan(30_000);
  return { latchId, dueInMs };
}

/** Releases the latch as the script does; the caller dies before it copies the list to the shards. */
async function releaseAndDie(latchId: string): Promise<void> {
  const { keys, scripts } = valkey;
  const key = keys.shard(keys.control, 'latches');
  const args = [keys.control, latchId, settings.text, 'ann', 'over', 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ'];
  expect(await scripts.json('releaseLatch', key, args)).toMatchObject({ already: false });
}

describe('R22 R53 attempts that a latch has parked are due again once the latch is released', () => {
  it('and its list was copied', async () => {
    const { latchId, dueInMs } = await parked();
    await latches.release(latchId, 'ann', 'over');
    expect(await dueInMs()).toBeLessThanOrEqual(0);
  });

  it('although its giver died before the copy', async () => {
    const { latchId, dueInMs } = await parked();
    await releaseAndDie(latchId);
    await latches.repair();
    expect(await dueInMs()).toBeLessThanOrEqual(0);
  });

  it('although its giver died before the copy, and a worker that follows the list copied it first', async () => {
    const worker = new LatchStore(valkey, settings);
    const { latchId, dueInMs } = await parked();
    await worker.follow();
    await releaseAndDie(latchId);
    expect(await worker.follow()).toEqual([]);
    await latches.repair();
    expect(await dueInMs()).toBeLessThanOrEqual(0);
  });

  it('although its giver died before the copy, and another latch was engaged meanwhile', async () => {
    const { latchId, dueInMs } = await parked();
    await releaseAndDie(latchId);
    const pool = { type: 'pool', pool: 'another' } as const;
    const { id: other } = await latches.engage(newLatch('latch', pool, { by: 'ben' }));
    await latches.repair();
    expect(await dueInMs()).toBeLessThanOrEqual(0);
    await latches.release(other, 'ben', 'over');
  });

  it('also when the process that copied the list died in the middle of a long one', async () => {
    const { latchId, dueInMs } = await parked();
    await releaseAndDie(latchId);
    const { keys, redis, scripts } = valkey;
    const version = Number(await redis.get(keys.shard(keys.control, 'latches:version')));
    for (const tag of keys.tags())
      await scripts.json('copyLatches', keys.shard(tag, 'latches'), [tag, version, '[]', 0]);
    expect(await dueInMs()).toBeGreaterThan(30_000);
    await latches.repair();
    expect(await dueInMs()).toBeLessThanOrEqual(0);
  });
});

describe('R34 a pause of a queue', () => {
  const lose = async (): Promise<void> => {
    const { keys, redis } = valkey;
    await redis.del(keys.shard(keys.control, 'latches'));
    for (const tag of keys.tags()) await redis.del(keys.shard(tag, 'latches'));
  };

  it('is checked by the claim, and stored again after a failover that lost it', async () => {
    const id = await createExecution(life, spec([node('a', { pool: 'gpu' })]));
    const entry = (await life.executions.advance(id)).entries[0] as DispatchEntry;
    const { latch } = await latches.pause('gpu', { by: 'ann' });
    await lose();
    await latches.recall();
    expect(await latches.pauseOf('gpu')).toMatchObject({ id: latch.id, kind: 'pause' });
    expect(await life.agents.claim(entry, WORKER, 't')).toMatchObject({
      why: 'LATCHED',
      latch: { kind: 'pause' },
    });
    await latches.release(latch.id, 'ann', 'over');
    expect(await life.agents.claim(entry, WORKER, 't')).toMatchObject({ claimed: true });
  });

  it('is one, however many ask at a time; one release ends it for good', async () => {
    const other = new LatchStore(valkey, settings);
    const asked = await Promise.all([
      latches.pause('gpu', { by: 'ann' }),
      other.pause('gpu', { by: 'ben' }),
      latches.pause('gpu', { by: 'eve' }),
    ]);
    expect(asked.filter(({ already }) => !already)).toHaveLength(1);
    expect(new Set(asked.map(({ latch }) => latch.id)).size).toBe(1);
    await latches.release(asked[0].latch.id, 'ann', 'over');
    // The callers that came second store no pause again after a failover.
    await latches.recall();
    expect(await latches.pauseOf('gpu')).toBeUndefined();
  });
});
