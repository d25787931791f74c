import { isLatchId, type DispatchEntry, type Latch } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec } from '../../../test/support/life';
import type { KillswitchService } from './killswitch.service';
import { LatchStore, newLatch } from './latch-store';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const MINUTE = 60_000;
const ALL = { type: 'all' } as const;
let valkey: Valkey;
let life: LifecycleService;
let latches: LatchStore;
let killswitch: KillswitchService;
let settings: KillswitchRig['settings'];
useKillswitch((rig) => ({ valkey, life, latches, killswitch, settings } = rig));
beforeEach(async () => valkey.redis.flushall());

const inControl = (name: string): string => valkey.keys.shard(valkey.keys.control, name);
const copyOf = async (tag: string): Promise<Latch[]> =>
  JSON.parse((await valkey.redis.hget(valkey.keys.shard(tag, 'latches'), 'set')) ?? '[]') as Latch[];
const idsOf = (items: readonly Latch[]): string[] => items.map(({ id }) => id).toSorted();

/** Each shard's latches, by id. */
async function copies(): Promise<string[][]> {
  return Promise.all(valkey.keys.tags().map(async (tag) => idsOf(await copyOf(tag))));
}

/** Gives every shard a list from a server whose clock was a minute ahead. A failover of the control slot lost that list. */
async function putAhead(items: readonly unknown[] = []): Promise<number> {
  const { keys, redis } = valkey;
  const version = (await valkey.timeAt(inControl('latches'))) + MINUTE;
  for (const tag of keys.tags())
    await redis.hset(keys.shard(tag, 'latches'), 'version', version, 'set', JSON.stringify(items));
  return version;
}

const engaged = (pool = 'gpu'): Latch => ({
  ...newLatch('latch', { type: 'pool', pool }, { by: 'ann' }),
  engagedAt: 1_700_000_000_000,
});

describe('R22 R53 a latch is in force although shards have a list of a higher version than the control slot', () => {
  it('when a kill brings it: nothing that is submitted later is claimed', async () => {
    await putAhead();
    const order = await killswitch.placeOrder({ scope: ALL, by: 'ann', latch: true });
    expect((await killswitch.waitForReceipt(order.id)).complete).toBe(true);
    expect(await copies()).toEqual(valkey.keys.tags().map(() => [order.latchId]));
    await expect(createExecution(life, spec([node('a')]))).rejects.toMatchObject({ code: 'LATCHED' });
  });

  it('when it is engaged alone: a claim is refused, and granted after its release', async () => {
    const id = await createExecution(life, spec([node('a')]));
    const [entry] = (await life.executions.advance(id)).entries;
    await putAhead();
    const latch = await latches.engage(newLatch('latch', ALL, { by: 'ann' }));
    const claim = async () => life.agents.claim(entry as DispatchEntry, WORKER, 't');
    expect(await claim()).toMatchObject({ why: 'LATCHED' });
    await putAhead([latch]);
    await latches.release(latch.id, 'ann', 'over');
    expect(await claim()).toMatchObject({ claimed: true });
  });

  it('when both are of one version and differ', async () => {
    const { keys, redis } = valkey;
    const { id } = await latches.engage(newLatch('latch', ALL, { by: 'ann' }));
    const version = Number(await redis.get(inControl('latches:version')));
    for (const tag of keys.tags()) await redis.hset(keys.shard(tag, 'latches'), 'set', '[]');
    await latches.copy({ version, items: await latches.list() });
    expect(await copies()).toEqual(keys.tags().map(() => [id]));
  });

  it('when the sweep repairs it', async () => {
    const { id } = await latches.engage(newLatch('latch', ALL, { by: 'ann' }));
    const version = await putAhead();
    await latches.repair();
    expect(await copies()).toEqual(valkey.keys.tags().map(() => [id]));
    expect(Number(await valkey.redis.get(inControl('latches:version')))).toBeGreaterThan(version);
  });

  it('when a shard alone is ahead', async () => {
    const { keys, redis } = valkey;
    const [tag] = keys.tags();
    const ahead = (await valkey.timeAt(inControl('latches'))) + MINUTE;
    await redis.hset(keys.shard(tag as string, 'latches'), 'version', ahead, 'set', '[]');
    const { id } = await latches.engage(newLatch('latch', ALL, { by: 'ann' }));
    expect(await copies()).toEqual(keys.tags().map(() => [id]));
  });
});

describe('R22 R53 changes that a failover of the control slot lost', () => {
  it('a latch that only shards have stays in force, is listed again, and can be released', async () => {
    const lost = engaged();
    await putAhead([lost]);
    await latches.repair();
    expect(await latches.list()).toEqual([lost]);
    expect(await copies()).toEqual(valkey.keys.tags().map(() => [lost.id]));
    await latches.release(lost.id, 'ben', 'over');
    expect(await copies()).toEqual(valkey.keys.tags().map(() => []));
  });

  it('and it stays in force when another latch is engaged first', async () => {
    const lost = engaged();
    await putAhead([lost]);
    const { id } = await latches.engage(newLatch('latch', ALL, { by: 'ben' }));
    expect(await copies()).toEqual(valkey.keys.tags().map(() => [id, lost.id].toSorted()));
  });

  it('a release: the latch that is listed is in force again', async () => {
    const { id } = await latches.engage(newLatch('latch', ALL, { by: 'ann' }));
    await putAhead([]);
    await latches.repair();
    expect(idsOf(await latches.list())).toEqual([id]);
    expect(await copies()).toEqual(valkey.keys.tags().map(() => [id]));
  });

  it('and a latch that was released does not come back from a shard that is ahead', async () => {
    const latch = await latches.engage(newLatch('latch', ALL, { by: 'ann' }));
    await latches.release(latch.id, 'ann', 'over');
    await putAhead([latch]);
    await latches.repair();
    expect(await latches.list()).toEqual([]);
    expect(await copies()).toEqual(valkey.keys.tags().map(() => []));
  });

  it('and of two pauses of one pool, one stays', async () => {
    const { latch } = await latches.pause('gpu', { by: 'ann' });
    await putAhead([{ ...engaged(), kind: 'pause' }]);
    await latches.repair();
    expect(await copies()).toEqual(valkey.keys.tags().map(() => [latch.id]));
  });
});

it('R22 R53 latches that many processes engage and release at a time are the same in every shard at the end', async () => {
  const stores = Array.from({ length: 8 }, () => new LatchStore(valkey, settings));
  await Promise.all(
    stores.map(async (store, i) => {
      const { id } = await store.engage(newLatch('latch', { type: 'pool', pool: `p${i}` }, { by: 'ann' }));
      expect(isLatchId(id)).toBe(true);
      if (i % 2 === 0) await store.release(id, 'ann', 'over');
    }),
  );
  const listed = idsOf(await latches.list());
  expect(listed).toHaveLength(4);
  expect(await copies()).toEqual(valkey.keys.tags().map(() => listed));
  const version = await valkey.redis.get(inControl('latches:version'));
  await latches.repair();
  expect(await valkey.redis.get(inControl('latches:version'))).toBe(version);
});
