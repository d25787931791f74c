import type { Valkey } from '#libs/valkey';
import { createExecution, node, spec, startNext, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;
useLife((rig) => ({ valkey, life } = rig));

it('counts executions and agents by state, and unproved attempts, across all shards', async () => {
  const ids = await Promise.all([1, 2, 3].map(async () => createExecution(life, spec([node('a')]))));
  const [first, second] = [await startNext(life, ids[0] ?? ''), await startNext(life, ids[1] ?? '')];
  await life.agents.finish(second.fence, { state: 'completed' });
  expect([
    await life.executions.countIn('running'),
    await life.executions.countIn('completed'),
    await life.agents.countIn('running'),
    await life.agents.countIn('completed'),
    await life.agents.countIn('spawning'),
    await life.agents.countUnproved(),
  ]).toEqual([2, 1, 1, 1, 0, 0]);
  const [one = '', other = ''] = valkey.keys.tags().map((tag) => valkey.keys.shard(tag, 'unproved'));
  await valkey.redis.zadd(one, 1, first.agentId);
  await valkey.redis.zadd(other, 1, first.agentId, 2, second.agentId);
  expect(await life.agents.countUnproved()).toBe(3);
});
