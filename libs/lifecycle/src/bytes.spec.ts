import { bytesLeft } from '../../../bench/support/bytes';
import { LifecycleService } from '#libs/lifecycle';
import { useLife, type Rig } from '../../../test/support/life';

let rig: Rig;
useLife((made) => (rig = made));
beforeEach(async () => rig.valkey.redis.flushall());

it('an ended node leaves at most 2.4 KB on the server, its events included, and 1 KB for the log of an agent that wrote nothing', async () => {
  const life = new LifecycleService(rig.valkey, { retentionMs: 3_600_000 });
  const { perNode, byKind } = await bytesLeft(life, 1, 200);
  const log = byKind['log:<agent>'] ?? 0;
  expect(perNode - log - changesIn(byKind)).toBeLessThanOrEqual(2_400);
  expect(log).toBeLessThanOrEqual(1_000);
}, 60_000);

it('an ended execution of one node leaves at most 4.9 KB, that log included', async () => {
  const life = new LifecycleService(rig.valkey, { retentionMs: 3_600_000 });
  const { perNode, byKind } = await bytesLeft(life, 20, 1);
  expect(perNode - changesIn(byKind)).toBeLessThanOrEqual(4_900);
}, 60_000);

it('the places of the latest changes take at most 1 MB in a shard, and no more for more executions', async () => {
  const life = new LifecycleService(rig.valkey, { retentionMs: 3_600_000, shardChanges: 1_000 });
  const { byKind } = await bytesLeft(life, 1, 400);
  const { redis, keys } = rig.valkey;
  const kept = await Promise.all(keys.tags().map(async (tag) => redis.xlen(keys.shard(tag, 'changes'))));
  const most = Math.max(...kept);
  // The server trims whole blocks.
  expect(most).toBeLessThanOrEqual(1_200);
  expect((changesIn(byKind) * 400) / most).toBeLessThanOrEqual(100);
}, 60_000);

/** The list of a shard's latest changes has a fixed size, however many executions have ended: nothing of it stays for each. */
function changesIn(byKind: Readonly<Record<string, number>>): number {
  return byKind['changes'] ?? 0;
}
