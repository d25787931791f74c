import type { Valkey } from '#libs/valkey';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { knownLabels } from './known-labels';
import type { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;
useLife((rig) => ({ valkey, life } = rig));

it('labels of executions are known, and one whose labels are gone hides no other', async () => {
  // Chance decides which of the two shards an execution gets. Only now are both without one.
  expect(await knownLabels(valkey)).toEqual([]);
  const labels = { team: 'data' };
  const gone = await createExecution(life, spec([node('a')], { labels: { team: 'gone' } }));
  await createExecution(life, spec([node('a')], { labels }));
  const tag = valkey.keys.tagOf(gone);
  for (const index of ['idx:labels', 'idx:node-labels'])
    await valkey.redis.hdel(valkey.keys.shard(tag, index), gone);
  const known = await knownLabels(valkey);
  expect(known).toContainEqual(labels);
  expect(known).not.toContainEqual({ team: 'gone' });
});

it('R51 an escapee is told once, however often it is found', async () => {
  const told: string[] = [];
  const ears = valkey.connections.create('subscriber');
  ears.on('message', (_channel: string, message: string) => told.push(message));
  await ears.subscribe(valkey.keys.eventsChannel);
  const escapee = { pid: 7, startTime: '70', command: 'sh', killed: true };
  for (let times = 0; times < 2; times++) await life.workers.tellEscapee('wrk_1', escapee);
  await life.workers.tellEscapee('wrk_1', { ...escapee, pid: 8 });
  for (let i = 0; i < 1_000 && told.length < 2; i++) await valkey.redis.ping();
  expect(told).toHaveLength(2);
  ears.disconnect();
});
