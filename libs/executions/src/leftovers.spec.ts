import { agentQueueName, ownPoolOf } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';
import { Janitor } from './janitor';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const NODES = 600;

let life: LifecycleService;
let queues: AgentQueues;
let dag: DagExecutor;
useLife((rig) => ({ life } = rig));
beforeEach(async () => {
  await life.valkey.redis.flushall();
  queues = new AgentQueues(life, { prefix: 'bull' });
  dag = new DagExecutor(life, queues);
});
afterEach(async () => queues.close());

const wide = (pool: string) => spec(Array.from({ length: NODES }, (_, i) => node(`n${i}`, { pool })));

async function jobs(pool: string): Promise<number> {
  const { redis } = life.valkey;
  const name = `bull:${agentQueueName(pool)}`;
  return (await redis.zcard(`${name}:prioritized`)) + (await redis.llen(`${name}:wait`));
}

it('a stopped execution leaves no job in its queue', async () => {
  const id = await createExecution(life, wide('a'));
  await dag.drive(id);
  expect(await jobs('a')).toBe(NODES);
  await life.executions.stop(id, { reason: 'user_abort' });
  await dag.drive(id);
  expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', nodes: { cancelled: NODES } });
  expect(await jobs('a')).toBe(0);
});

it('R22 a resume hands over what was parked itself, in bounded steps, though its giver dies in between', async () => {
  const { redis, keys } = life.valkey;
  const id = await createExecution(life, wide('b'));
  await dag.drive(id);
  await life.executions.pause(id, { mode: 'drain', actor: 'test' });
  const outbox = keys.shard(keys.tagOf(id), 'outbox');
  for (const text of await redis.hvals(outbox)) {
    const entry = JSON.parse(text) as Parameters<typeof life.agents.claim>[0];
    expect(await life.agents.claim(entry, WORKER, 't')).toMatchObject({ claimed: false, why: 'NOT_RUNNING' });
  }
  await redis.del(...(await redis.keys('bull:*')));
  await life.executions.resume(id, 'test');
  // The first step is taken and its answer lost.
  const { entries, more } = await life.executions.advance(id);
  expect({ entries: entries.length, more }).toEqual({ entries: 200, more: true });
  await dag.drive(id);
  expect(await jobs('b')).toBe(NODES - 200);
  await redis.eval(
    "for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('ZINCRBY', KEYS[1], -2000, id) end",
    2,
    keys.shard(keys.tagOf(id), 'outbox:at'),
    outbox,
  );
  await queues.sweep(keys.tagOf(id));
  expect(await jobs('b')).toBe(NODES);
});

it('a worker that is gone leaves nothing of the queue that was its own', async () => {
  const own = ownPoolOf(WORKER);
  await dag.drive(await createExecution(life, spec([node('a', { pool: own })])));
  await life.workers.register(WORKER, { pools: 'default' }, 60_000);
  for (const state of ['running', 'draining', 'stopped'] as const)
    await life.workers.transition(WORKER, state);
  expect(await life.valkey.redis.keys(`bull:${agentQueueName(own)}:*`)).not.toEqual([]);
  await new Janitor(life, queues, dag, new AttemptEnds(life, dag), {
    intervalMs: 1,
    retentionMs: 60_000,
  }).sweep();
  expect(await life.valkey.redis.keys(`bull:${agentQueueName(own)}:*`)).toEqual([]);
});
