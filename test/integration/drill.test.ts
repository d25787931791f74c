import { eventually, processesWith, type Member } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';
import { createClient } from '#libs/client';

const LEASE = { BELAY_LEASE_TTL_MS: '4000', BELAY_HEARTBEAT_MS: '200', BELAY_GRACE_MS: '200' };

const { begin, fleet, it } = fleetPerTest();

it('R55 a drill whose orchestrator dies leaves no canary, not even the frozen one, and counts as failed', async () => {
  await begin({ workers: 1, env: LEASE });
  const [first] = fleet.orchestrators as [Member];
  const other = await fleet.addOrchestrator();
  const client = createClient({ url: other.url ?? '', token: fleet.token });
  const { redis, keys } = fleet.life.valkey;
  const workerId = fleet.workers[0]?.id ?? '';

  const ears = fleet.life.valkey.connections.create('subscriber');
  await ears.subscribe(keys.eventsChannel);
  ears.on('message', (_channel: string, text: string) => {
    if (text.includes('execution.running')) first.process.kill('SIGKILL');
  });
  expect(await fleet.client.drill().catch((error: unknown) => error)).toBeInstanceOf(Error);
  ears.disconnect();
  fleet.orchestrators.shift();
  const canaries = await eventually(async () => {
    const { items } = await client.agents({ state: ['running'] });
    const whole = await Promise.all(items.map(async ({ id: agentId }) => client.agent(agentId)));
    return whole.filter(({ progress }) => progress === 'ready').length === 4 ? whole : undefined;
  }, 'every canary');
  const frozen = canaries.find(({ nodeId }) => nodeId === 'frozen');
  const id = frozen?.executionId ?? '';
  // As far as the drill might have come.
  expect(
    await client.kill({ kind: 'freeze', scope: { type: 'agent', agentId: frozen?.id ?? '' } }),
  ).toMatchObject({ totals: { frozen: 1 } });
  const record = await client.execution(id);
  expect(record).toMatchObject({ state: 'running', labels: { drill: workerId } });
  expect((record.deadlineAt ?? 0) - (record.startedAt ?? 0)).toBe(60_000);
  expect(processesWith(id).length).toBeGreaterThan(3);

  // The minute has passed.
  await redis.zadd(keys.shard(keys.tagOf(id), 'deadlines'), 1, id);
  const ended = await eventually(async () => {
    const now = await client.execution(id);
    return now.state === 'stopped' || now.state === 'failed' ? now : undefined;
  }, 'the end of the drill’s execution');
  expect(ended).toMatchObject({ reason: 'timeout', live: 0 });
  expect(processesWith(id)).toEqual([]);
  expect(await client.receipt(ended.orderId ?? '')).toMatchObject({ complete: true });

  // Too young to be called unfinished.
  expect((await client.drills()).items).toEqual([{ workerId, overdue: false }]);
  const begun = keys.shard(keys.control, 'drills:begun');
  const [[drillId, text]] = Object.entries(await redis.hgetall(begun)) as [[string, string]];
  const at = (JSON.parse(text) as { at: number }).at - 180_000;
  await redis.hset(begun, drillId, JSON.stringify({ ...(JSON.parse(text) as object), at }));
  const last = { passed: false, by: 'admin', detail: expect.stringContaining('did not finish') as string };
  const asked = await Promise.all([client.drills(), client.drills()]);
  expect(asked[1]?.items).toEqual([
    { workerId, overdue: false, last: expect.objectContaining(last) as unknown },
  ]);
  expect((await client.drills()).items).toMatchObject([{ workerId, last }]);
  expect(await redis.exists(begun)).toBe(0);
  expect((await client.audit()).items.filter(({ act }) => act === 'drill.failed')).toHaveLength(1);

  // A finished drill replaces it, and leaves nothing under way.
  expect(await client.drill()).toMatchObject({ passed: true });
  expect((await client.drills()).items).toMatchObject([{ workerId, last: { passed: true } }]);
  expect(await redis.exists(begun)).toBe(0);
});
