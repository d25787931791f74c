import type { BelayEvent, DispatchEntry, Latch } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed, Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec } from '../../../test/support/life';
import { until } from '../../../test/support/wait';
import { AuditStore } from './audit-store';
import type { KillswitchService } from './killswitch.service';
import { LatchStore, newLatch } from './latch-store';
import type { OrderStore } from './order-store';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const GPU = { type: 'pool', pool: 'gpu' } as const;
let valkey: Valkey;
let life: LifecycleService;
let latches: LatchStore;
let orders: OrderStore;
let killswitch: KillswitchService;
let feed: ChangeFeed;
let settings: KillswitchRig['settings'];
let follower: LatchStore;
useKillswitch((rig) => ({ valkey, life, latches, orders, killswitch, feed, settings } = rig), {
  releaseNeeds: 2,
});
beforeEach(async () => {
  await valkey.redis.flushall();
});

const engage = async (): Promise<Latch> =>
  latches.engage(newLatch('latch', GPU, { by: 'ann', releaseNeeds: 2 }));
const isEngaged = async (id: string): Promise<boolean> => (await latches.list()).some((one) => one.id === id);
const inControl = (name: string): string => valkey.keys.shard(valkey.keys.control, name);

/** Changes the stored latch, as no script would. */
async function rewrite(id: string, change: (latch: Latch) => Latch): Promise<void> {
  const text = (await valkey.redis.hget(inControl('latches'), id)) ?? '';
  await valkey.redis.hset(inControl('latches'), id, JSON.stringify(change(JSON.parse(text) as Latch)));
}

describe('R65 a latch whose release needs two people', () => {
  it('stays engaged after the first, and is released by another; both acts are in the audit log and in events', async () => {
    const seen: BelayEvent[] = [];
    const listening = feed.events$.subscribe((event) => seen.push(event));
    const id = await createExecution(life, spec([node('a', { pool: 'gpu' })]));
    const entry = (await life.executions.advance(id)).entries[0] as DispatchEntry;
    const { id: latchId } = await engage();
    const claim = async (): Promise<object> => life.agents.claim(entry, WORKER, 't');
    const who = { role: 'operator', requestId: 'req_1' } as const;
    const first = await latches.release(latchId, 'ann', 'mended', who);
    expect(first).toMatchObject({
      already: false,
      pending: { needs: 1, approvedBy: 'ann' },
      latch: { releaseNeeds: 2, approval: { by: 'ann', note: 'mended', ...who } },
    });
    const { at = 0, expiresAt = 0 } = first.latch.approval ?? {};
    expect(expiresAt - at).toBe(15 * 60_000);
    expect(await latches.get(latchId)).toEqual(first.latch);
    expect(await claim()).toMatchObject({ why: 'LATCHED' });
    const second = await latches.release(latchId, 'ben', 'I agree');
    expect(second.pending).toBeUndefined();
    expect(second).toMatchObject({
      already: false,
      latch: { releasedBy: 'ben', releaseNote: 'I agree', approval: { by: 'ann' } },
    });
    expect(await isEngaged(latchId)).toBe(false);
    expect(await claim()).toMatchObject({ claimed: true });
    expect(await latches.release(latchId, 'eve', 'me too')).toMatchObject({
      already: true,
      latch: second.latch,
    });
    const { items } = await new AuditStore(valkey, settings).list();
    expect(items).toMatchObject([
      { act: 'latch.released', by: 'ben', approvedBy: 'ann', note: 'I agree', latchId },
      { act: 'latch.approved', by: 'ann', note: 'mended', latchId, ...who },
      { act: 'latch.engaged' },
    ]);
    await until(() => seen.some(({ type }) => type === 'latch.released'), 'the events');
    listening.unsubscribe();
    expect(seen.find(({ type }) => type === 'latch.approved')).toMatchObject({
      entity: 'latch',
      to: 'engaged',
      data: { latchId, by: 'ann', expiresAt },
    });
  });

  it('is not released by one person, however often: BELAY_TOKEN is one person, too', async () => {
    const { id } = await engage();
    const first = await latches.release(id, 'admin', 'mended');
    const again = await Promise.all(
      Array.from({ length: 10 }, async () => latches.release(id, 'admin', 'please')),
    );
    for (const release of again)
      expect(release).toMatchObject({ already: true, pending: { approvedBy: 'admin' }, latch: first.latch });
    expect(await isEngaged(id)).toBe(true);
    const { items } = await new AuditStore(valkey, settings).list();
    expect(items.filter(({ act }) => act === 'latch.approved')).toHaveLength(1);
  });

  it('is released by exactly one of two people who race', async () => {
    for (let round = 0; round < 10; round++) {
      const { id } = await engage();
      const other = new LatchStore(valkey, settings);
      const released = await Promise.all([
        latches.release(id, 'ann', 'now'),
        other.release(id, 'ben', 'now'),
        latches.release(id, 'ann', 'now'),
      ]);
      const [first] = released.filter(({ already, pending }) => pending !== undefined && !already);
      const done = released.filter(({ already, pending }) => pending === undefined && !already);
      expect(done).toHaveLength(1);
      expect(done[0]?.latch.releasedBy).not.toBe(first?.pending?.approvedBy);
      expect(await isEngaged(id)).toBe(false);
    }
  });

  it('takes no approval that has expired, by the server’s clock: the next one is the first', async () => {
    const { id } = await engage();
    await latches.release(id, 'ann', 'mended');
    await rewrite(id, (latch) => ({ ...latch, approval: { ...latch.approval!, expiresAt: 1 } }));
    expect(await latches.release(id, 'ben', 'late')).toMatchObject({ pending: { approvedBy: 'ben' } });
    expect(await isEngaged(id)).toBe(true);
    expect(await latches.release(id, 'ann', 'again')).toMatchObject({ latch: { approval: { by: 'ben' } } });
    expect(await isEngaged(id)).toBe(false);
  });

  it('takes no approval of another latch of the same scope', async () => {
    const { id: before } = await engage();
    const { id: beside } = await engage();
    await latches.release(before, 'ann', 'mended');
    expect(await latches.release(beside, 'ben', 'mended')).toMatchObject({ pending: { approvedBy: 'ben' } });
    await latches.release(before, 'ben', 'mended');
    const { id: later } = await engage();
    expect(await latches.release(later, 'ben', 'mended')).toMatchObject({ pending: { approvedBy: 'ben' } });
    expect(await isEngaged(beside)).toBe(true);
    expect(await isEngaged(later)).toBe(true);
  });

  it('needs one person if nobody asked for two', async () => {
    const { id } = await latches.engage(newLatch('latch', GPU, { by: 'ann', releaseNeeds: 1 }));
    const { latch, pending } = await latches.release(id, 'ann', 'mended');
    expect([pending, latch.releaseNeeds, latch.releasedBy]).toEqual([undefined, undefined, 'ann']);
  });
});

describe('R65 R53 a failover', () => {
  it.each([
    ['stored again by the process that engaged it', async () => latches.recall()],
    [
      'stored again by a worker that saw the approval',
      async () => {
        await follower.follow();
      },
    ],
    [
      'taken from the copy of a shard',
      async () => {
        await latches.engage(newLatch('latch', { type: 'pool', pool: 'other' }, { by: 'ann' }));
      },
    ],
  ])('leaves two people to be asked for a latch that is %s', async (how, restore) => {
    const { id } = await engage();
    await latches.release(id, 'ann', 'mended');
    follower = new LatchStore(valkey, settings);
    await follower.follow();
    // The shards get the latch with its approval.
    const { id: other } = await latches.engage(newLatch('latch', GPU, { by: 'eve' }));
    await latches.release(other, 'eve', 'over');
    await valkey.redis.del(inControl('latches'), inControl('latches:version'));
    if (how.includes('shard')) {
      const versions = valkey.keys.tags().map((tag) => valkey.keys.shard(tag, 'latches'));
      for (const key of versions) await valkey.redis.hset(key, 'version', Date.now() + 600_000);
    }
    await restore();
    const [found] = (await latches.list()).filter((latch) => latch.id === id);
    expect(found).toMatchObject({ id, releaseNeeds: 2 });
    expect(found?.approval).toBeUndefined();
    expect(await latches.release(id, 'ben', 'mended')).toMatchObject({ pending: { approvedBy: 'ben' } });
    expect(await isEngaged(id)).toBe(true);
  });
});

describe('R65 BELAY_RELEASE_NEEDS=2', () => {
  it('is for kills of everything that do not say it; their latches keep it after a failover', async () => {
    const all = await killswitch.placeOrder({ scope: { type: 'all' }, by: 'ann', latch: true });
    const latch = await latches.get(all.latchId ?? '');
    expect([all.releaseNeeds, latch.releaseNeeds]).toEqual([2, 2]);
    const said = await killswitch.placeOrder({
      scope: { type: 'all' },
      by: 'ann',
      latch: true,
      releaseNeeds: 1,
    });
    const pool = await killswitch.placeOrder({ scope: GPU, by: 'ann', latch: true });
    for (const { latchId = '' } of [said, pool])
      expect((await latches.get(latchId)).releaseNeeds).toBeUndefined();
    expect(await killswitch.holds.release(latch.id, { by: 'ann', note: 'over' })).toMatchObject({
      pending: { approvedBy: 'ann' },
    });
    await valkey.redis.flushall();
    await orders.recall();
    expect(await latches.get(latch.id)).toMatchObject({ releaseNeeds: 2, orderId: all.id });
    expect((await orders.receipt(all.id)).order.releaseNeeds).toBe(2);
    expect(await killswitch.holds.release(latch.id, { by: 'ben', note: 'over' })).toMatchObject({
      pending: { approvedBy: 'ben' },
    });
    expect(await killswitch.holds.release(latch.id, { by: 'ann', note: 'over' })).toMatchObject({
      latch: { releasedBy: 'ann' },
    });
  });

  it('is not for a freeze, which thaws by one release', async () => {
    const { latchId = '' } = await killswitch.placeOrder({
      kind: 'freeze',
      scope: { type: 'all' },
      by: 'ann',
      latch: true,
    });
    expect((await killswitch.holds.release(latchId, { by: 'ann', note: 'over' })).pending).toBeUndefined();
  });
});
