import type { DispatchEntry } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec } from '../../../test/support/life';
import { AuditStore } from './audit-store';
import { LimitPolicy } from './limit-policy';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
let valkey: Valkey;
let life: LifecycleService;
let settings: KillswitchRig['settings'];
useKillswitch((rig) => ({ valkey, life, settings } = rig));
beforeEach(async () => valkey.redis.flushall());

it('R35 limits are one record, in the audit log, in every shard; none lifts them', async () => {
  const policy = new LimitPolicy(life, settings);
  expect(await policy.get()).toEqual({ version: 0, items: [], held: 0, waiting: 0 });
  const items = [{ by: 'pool', running: 5 }];
  const first = await policy.set(items, { by: 'ann', note: 'the new driver' });
  expect(first).toMatchObject({ items, held: 0 });
  for (const tag of valkey.keys.tags())
    expect(await valkey.redis.hget(valkey.keys.shard(tag, 'limits'), 'version')).toBe(String(first.version));
  const second = await policy.set([], { by: 'ben' });
  expect(second.items).toEqual([]);
  expect(second.version).toBeGreaterThan(first.version);
  const audit = new AuditStore(valkey, settings);
  expect((await audit.list()).items).toMatchObject([
    { act: 'limits.set', by: 'ben', limits: '[]' },
    { act: 'limits.set', by: 'ann', note: 'the new driver', limits: JSON.stringify(items) },
  ]);
  expect(await audit.verify()).toMatchObject({ intact: true });
});

it('R35 limits that are set after a failover win over a change that only shards have, whatever the clocks say', async () => {
  const { keys, redis } = valkey;
  const policy = new LimitPolicy(life, settings);
  const ahead = (await valkey.timeAt(keys.shard(keys.control, 'limits'))) + 60_000;
  const lost = JSON.stringify([{ by: 'fleet', running: 1 }]);
  for (const tag of keys.tags())
    await redis.hset(keys.shard(tag, 'limits'), 'version', String(ahead), 'set', lost);
  const items = [{ by: 'fleet', running: 7 }];
  expect(await policy.set(items, { by: 'ann' })).toMatchObject({ items });
  await life.slots.copy();
  expect(await policy.get()).toMatchObject({ items });
  for (const tag of keys.tags())
    expect(await redis.hget(keys.shard(tag, 'limits'), 'set')).toBe(JSON.stringify(items));
});

it('R35 limits that are set while workers claim: whatever runs when the answer is there is counted', async () => {
  const policy = new LimitPolicy(life, settings);
  for (let round = 0; round < 10; round++) {
    const entries: DispatchEntry[] = [];
    for (let i = 0; i < 12; i++) {
      const id = await createExecution(life, spec([node('a', { pool: `p${round}` })]));
      entries.push(...(await life.executions.advance(id)).entries);
    }
    const claims = entries.map(async (entry) => life.agents.claim(entry, WORKER, entry.agentId));
    const set = policy.set([{ by: 'pool', running: 3 + (round % 2) }], { by: 'ann' });
    const granted = (await Promise.all(claims)).filter(({ claimed }) => claimed);
    const { held } = await set;
    const live = await life.agents.liveEverywhere();
    expect(held).toBe(live.length);
    await policy.set([], { by: 'ann' });
    for (const claim of granted)
      if (claim.claimed) await life.agents.finish(claim.fence, { state: 'failed' });
    await valkey.redis.flushall();
  }
});
