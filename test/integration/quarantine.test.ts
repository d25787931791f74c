import { writeFileSync } from 'node:fs';
import { eventually, processesWith } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';
import { until } from '../support/wait';

const sh = (script: string) => ({ command: [script], shell: true });
const ENV = { BELAY_LEASE_TTL_MS: '4000', BELAY_HEARTBEAT_MS: '300', BELAY_GRACE_MS: '300' };
const SLEEPS = 'echo ready; sleep 600';

const { begin, fleet, it } = fleetPerTest();

async function submit(nodes: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes, ...more });
  return execution.id;
}

/** An execution with one running agent. */
async function running(): Promise<{ id: string; agentId: string }> {
  const id = await submit([{ id: 'a', run: sh(SLEEPS) }]);
  const [agent] = await eventually(async () => {
    const { items } = await fleet.client.agents({ executionId: id, state: ['running'] });
    return items.length === 1 && processesWith(`BELAY_AGENT_ID=${items[0]?.id}\0`).length > 0 && items;
  }, `an agent of ${id}`);
  return { id, agentId: agent?.id ?? '' };
}

const listed = async () => (await fleet.client.quarantine()).items;
const completes = async (id: string) =>
  expect((await fleet.client.waitForEnd(id, { giveUpAfterMs: 60_000 })).state).toBe('completed');

type Spoil = (id: string, agentId: string) => Promise<unknown>;

/** Each of these damages the records of an execution whose agent runs. */
const SPOILS: Record<string, Spoil> = {
  'an agent that is not JSON': async (id, agentId) =>
    fleet.life.valkey.redis.hset(fleet.life.valkey.keys.execution(id, 'agents'), agentId, '{broken'),
  'an agent in an unknown state': async (id, agentId) =>
    fleet.life.valkey.redis.hset(
      fleet.life.valkey.keys.execution(id, 'agents'),
      agentId,
      '{"id":"x","state":"flying"}',
    ),
  'an agent of 17 MiB': async (id, agentId) =>
    fleet.life.valkey.redis.hset(
      fleet.life.valkey.keys.execution(id, 'agents'),
      agentId,
      'x'.repeat(17 * 1024 * 1024),
    ),
  'agents under a key of another type': async (id) => replace(fleet.life.valkey.keys.execution(id, 'agents')),
  'a node that is not JSON': async (id) =>
    fleet.life.valkey.redis.hset(fleet.life.valkey.keys.execution(id, 'nodes'), 'a', '[1,'),
  'an execution without a state': async (id) =>
    fleet.life.valkey.redis.hdel(fleet.life.valkey.keys.execution(id), 'state'),
  'an execution in an unknown state': async (id) =>
    fleet.life.valkey.redis.hset(fleet.life.valkey.keys.execution(id), 'state', 'flying'),
  'an execution under a key of another type': async (id) => replace(fleet.life.valkey.keys.execution(id)),
};

const replace = async (key: string) => fleet.life.valkey.redis.multi().del(key).set(key, 'text').exec();

it('R31 a kill of everything ends and proves the processes of executions that cannot be read; others go on', async () => {
  await begin({ workers: 2, env: ENV });
  const spoilt: { what: string; id: string; agentId: string }[] = [];
  for (const [what, spoil] of Object.entries(SPOILS)) {
    const one = await running();
    spoilt.push({ what, ...one });
    // 17 MiB take a busy machine longer than a connection waits; the repeat does no harm.
    await until(async () => spoil(one.id, one.agentId).then(() => true), what);
  }
  const whole = await running();
  // The fleet goes on with other work beside them, and its lists are answered.
  await completes(
    await submit([
      { id: 'a', run: sh('true') },
      { id: 'b', dependsOn: ['a'], run: sh('true') },
    ]),
  );
  expect((await fleet.client.executions()).items.map(({ id }) => id)).toContain(whole.id);

  const receipt = await fleet.client.kill({ scope: { type: 'all' } });
  expect(spoilt.filter(({ id }) => processesWith(id).length > 0)).toEqual([]);
  // An answer comes when the limit for proof has passed, which a busy machine may need.
  const proved = await eventually(async () => {
    const now = await fleet.client.receipt(receipt.orderId);
    return now.complete && now;
  }, 'the proof of each');
  const outcomes = Object.fromEntries(
    proved.targets.map((target) => [target.agentId, [target.outcome, target.report?.proved]]),
  );
  for (const { what, agentId } of [...spoilt, { what: 'a whole one', agentId: whole.agentId }])
    expect({ what, is: outcomes[agentId] }).toEqual({ what, is: ['killed', true] });
  expect(proved).toMatchObject({ complete: true, missing: [] });

  await fleet.client.releaseLatch(receipt.latch?.id ?? '', 'on with it');
  await completes(await submit([{ id: 'a', run: sh('true') }]));
  // No slot of a worker waits for an end that cannot be stored.
  await eventually(
    async () => (await fleet.client.workers()).items.every((worker) => worker.running === 0),
    'every slot free',
  );
  const ids = new Set((await listed()).map(({ executionId }) => executionId));
  expect(spoilt.filter(({ id }) => !ids.has(id)).map(({ what }) => what)).toEqual([]);
  const metrics = await fetch(`${fleet.orchestrators[0]?.url}/metrics`, {
    headers: { authorization: `Bearer ${fleet.token}` },
  });
  expect(await metrics.text()).toMatch(/^belay_quarantined_records [1-9]/m);
});

it('R31 one execution, or one agent, that cannot be read is killed by its id', async () => {
  await begin({ workers: 1, env: ENV });
  const [first, second] = [await running(), await running()];
  await SPOILS['an execution under a key of another type']?.(first.id, first.agentId);
  await SPOILS['an agent that is not JSON']?.(second.id, second.agentId);
  // Its record cannot give the outcome; it is stopped all the same.
  await expect(fleet.client.stop(first.id)).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
  expect(processesWith(first.id)).toEqual([]);
  const receipt = await fleet.client.killAgent(second.agentId);
  expect(receipt).toMatchObject({ complete: true, totals: { killed: 1 } });
  expect(processesWith(second.id)).toEqual([]);
});

it('R31 is told once and not tried again by every sweep; mended, it goes on by itself', async () => {
  await begin({ workers: 1, env: ENV });
  const { redis, keys } = fleet.life.valkey;
  const until = `${fleet.dir}/go`;
  const id = await submit([
    { id: 'a', run: sh(`until [ -e ${until} ]; do sleep 0.05; done`) },
    { id: 'b', dependsOn: ['a'], run: sh('true') },
  ]);
  const nodes = keys.execution(id, 'nodes');
  const b = (await redis.hget(nodes, 'b')) as string;
  await eventually(
    async () => (await fleet.client.agents({ executionId: id, state: ['running'] })).items.length === 1,
    'a running',
  );
  await redis.hset(nodes, 'b', '{broken');
  // The agent ends while its dependant cannot be read: an end that cannot be stored whole is not stored.
  writeFileSync(until, '');
  await eventually(async () => (await listed()).some(({ field }) => field === 'b'), 'b set aside');
  const failedCalls = async (): Promise<number> =>
    Number(/cmdstat_evalsha:.*failed_calls=(\d+)/.exec(await redis.info('commandstats'))?.[1]);
  // Passes of the janitor, counted by the locks that it takes.
  const turns = async (): Promise<number> =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1]);
  const [failed, called] = [await failedCalls(), await turns()];
  await eventually(async () => (await turns()) > called + 40, 'several passes', 60_000);
  expect(await failedCalls()).toBe(failed);
  const told = () =>
    [...fleet.workers, ...fleet.orchestrators]
      .flatMap((member) => member.log().split('\n'))
      .filter((line) => line.includes('set aside') && line.includes(`${nodes} b`));
  expect(told()).toHaveLength(1);
  await redis.hset(nodes, 'b', b);
  await completes(id);
  await eventually(async () => (await listed()).length === 0, 'nothing set aside');
});

it('R31 a received text that is no order, event or job ends no process; kills are obeyed', async () => {
  await begin({ workers: 1, env: ENV });
  const { redis, keys } = fleet.life.valkey;
  for (const text of ['{broken', 'null', '7', '{}', '{"order":{}}', '{"order":{"id":7}}', '{"ask":1}', '[]'])
    for (const channel of [keys.doorbellChannel, keys.eventsChannel])
      expect(await redis.publish(channel, text)).toBeGreaterThan(0);
  // In the log of orders and among the open ones, before every other.
  const bad = 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ';
  await redis.hset(keys.order(bad), 'order', '{broken', 'state', 'open');
  await redis.sadd(keys.shard(keys.control, 'orders:open'), bad);
  await redis.xadd(keys.shard(keys.control, 'orders'), '*', 'o', bad);
  // In every outbox, long due.
  for (const tag of keys.tags()) {
    await redis.hset(keys.shard(tag, 'outbox'), 'agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-0-1', '{broken');
    await redis.zadd(keys.shard(tag, 'outbox:at'), 1, 'agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-0-1');
  }
  await completes(await submit([{ id: 'a', run: sh('true') }]));
  for (let i = 0; i < 3; i++) {
    const { id } = await running();
    // The doorbell is cut: this kill comes by the log, behind the unreadable order.
    await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    expect(await fleet.client.stop(id)).toMatchObject({ status: 'stopped', receipt: { complete: true } });
    expect(processesWith(id)).toEqual([]);
  }
  await eventually(
    async () => (await listed()).some(({ key }) => key === keys.order(bad)),
    'the order listed',
  );
  await eventually(
    async () => (await listed()).filter(({ key }) => key.endsWith(':outbox')).length === keys.tags().length,
    'the entries of the outboxes listed',
  );
  for (const member of [...fleet.workers, ...fleet.orchestrators]) expect(member.process.exitCode).toBeNull();
});
