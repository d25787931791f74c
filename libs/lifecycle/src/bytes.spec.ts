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
  expect(perNode - log).toBeLessThanOrEqual(2_400);
  expect(log).toBeLessThanOrEqual(1_000);
}, 60_000);

it('an ended execution of one node leaves at most 4.9 KB, that log included', async () => {
  const life = new LifecycleService(rig.valkey, { retentionMs: 3_600_000 });
  const { perNode } = await bytesLeft(life, 20, 1);
  expect(perNode).toBeLessThanOrEqual(4_900);
}, 60_000);
