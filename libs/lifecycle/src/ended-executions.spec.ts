import type { DispatchEntry } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { advanceAll, createExecution, node, spec, stopReport, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { EndedExecutions } from './ended-executions';
import { LifecycleService } from './lifecycle.service';
import { StateRoom } from './state-room';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

let valkey: Valkey;
let life: LifecycleService;

useLife((rig) => ({ valkey } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  life = new LifecycleService(valkey, { retentionMs: 3_600_000 });
});

async function claimOne(entry: DispatchEntry | undefined) {
  if (entry === undefined) throw new Error('nothing became ready');
  const claim = await life.agents.claim(entry, WORKER, 't');
  if (!claim.claimed) throw new Error(claim.why);
  await valkey.redis.xadd(
    valkey.keys.agentLog(entry.executionId, entry.agentId),
    '*',
    's',
    'stdout',
    'l',
    'x',
  );
  await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  return claim.fence;
}

/** Creates an execution that has ended. Resolves with its id. */
async function ended(
  result: unknown = 1,
  over: { idempotencyKey?: string; lost?: true } = {},
): Promise<string> {
  const { lost, ...rest } = over;
  const id = await createExecution(life, spec([node('a')], { labels: { team: 'x' }, ...rest }));
  const [entry] = await advanceAll(life, id);
  const fence = await claimOne(entry);
  const outcome = lost
    ? ({ state: 'failed', reason: 'worker_lost', lost } as const)
    : ({ state: 'completed', result } as const);
  await life.agents.finish(fence, outcome);
  return id;
}

const listed = async (): Promise<string[]> =>
  (await life.executions.list({ limit: 1_000 })).items.map(({ id }) => id).toReversed();

/** All keys whose names contain the execution's id. */
const keysOf = async (id: string): Promise<string[]> => valkey.redis.keys(`*${id.slice(4)}*`);

it('keeps the newest ended executions, and nothing of the others', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push(await ended(i, { idempotencyKey: `key-${i}` }));
  const running = await createExecution(life, spec([node('a')]));
  const room = new StateRoom(valkey);
  expect(await new EndedExecutions(valkey, room, { maxEnded: 2 }).sweep()).toBe(3);
  expect(await listed()).toEqual([...ids.slice(3), running]);
  for (const id of ids.slice(0, 3)) expect(await keysOf(id)).toEqual([]);
  const agents = await life.agents.list({ states: ['completed'] });
  expect(agents.map(({ executionId }) => executionId).sort()).toEqual(ids.slice(3).sort());
  expect((await life.executions.list({ labels: ['team=x'] })).items).toHaveLength(2);
  // The idempotency key is free again.
  expect(await ended(0, { idempotencyKey: 'key-0' })).not.toBe(ids[0]);
  expect(await new EndedExecutions(valkey, room, {}).sweep()).toBe(0);
});

it('R51 keeps for a minute an execution for which an open order may still ask', async () => {
  const id = await ended();
  const { redis, keys } = valkey;
  const open = keys.shard(keys.control, 'orders:open');
  await redis.sadd(open, 'ord_1');
  const room = new StateRoom(valkey);
  expect(await new EndedExecutions(valkey, room, { maxEnded: 0 }).sweep()).toBe(0);
  expect(await listed()).toEqual([id]);
  // An order that nobody completes keeps the execution no longer.
  await valkey.observeClock();
  await eventually(
    async () => (await new EndedExecutions(valkey, room, { maxEnded: 0 }, 50).sweep()) === 1,
    'the end of the least age',
  );
  const next = await ended();
  await redis.srem(open, 'ord_1');
  expect(await new EndedExecutions(valkey, room, { maxEnded: 0 }).sweep()).toBe(1);
  expect(await keysOf(next)).toEqual([]);
});

it('R51 keeps an execution whose agent a receipt misses until the order is complete', async () => {
  const id = await ended();
  const { redis, keys } = valkey;
  const [agent] = await redis.hkeys(keys.execution(id, 'agents'));
  await redis.sadd(keys.shard(keys.control, 'orders:open'), 'ord_1');
  await redis.sadd(keys.orderMissing('ord_1'), agent ?? '');
  await redis.hset(keys.execution(id), 'completedAt', valkey.clock.now() - 3_600_000);
  const sweeper = new EndedExecutions(valkey, new StateRoom(valkey), { maxEnded: 0 });
  expect(await sweeper.sweep()).toBe(0);
  await redis.srem(keys.orderMissing('ord_1'), agent ?? '');
  expect(await sweeper.sweep()).toBe(1);
});

it('R51 never removes a failed execution while an agent of it lives', async () => {
  const id = await createExecution(life, spec([node('a')]));
  const fence = await claimOne((await advanceAll(life, id))[0]);
  await life.executions.stop(id, { reason: 'user_abort' });
  // Its proof limit has passed: nobody could prove the agent dead.
  await life.executions.transition(id, 'failed', { from: 'stopping' });
  const sweeper = new EndedExecutions(valkey, new StateRoom(valkey, 1), { maxEnded: 0 }, 0);
  const ttls = async (): Promise<number[]> =>
    Promise.all(
      ['', ':agents'].map(async (part) => valkey.redis.pttl(`${valkey.keys.execution(id)}${part}`)),
    );
  expect(await sweeper.sweep()).toBe(0);
  expect(await ttls()).toEqual([-1, -1]);
  expect((await life.agents.liveEverywhere()).map((agent) => agent.id)).toEqual([fence.agentId]);
  await life.agents.finish(fence, { state: 'killed', report: stopReport() });
  expect(Math.min(...(await ttls()))).toBeGreaterThan(0);
  expect(await sweeper.sweep()).toBe(1);
});

it('R51 never removes an execution with an attempt that nobody has seen dead, and passes over it', async () => {
  const unproved = await ended(1, { lost: true });
  const others = [await ended(), await ended()];
  const sweeper = new EndedExecutions(valkey, new StateRoom(valkey, 1), { maxEnded: 0 });
  expect(await sweeper.sweep()).toBe(2);
  expect(await listed()).toEqual([unproved]);
  expect(await life.agents.unproved()).toHaveLength(1);
  for (const id of others) expect(await keysOf(id)).toEqual([]);
  const [lost] = await life.agents.unproved();
  const agentId = lost?.id ?? '';
  await life.agents.prove(agentId, WORKER, stopReport({ provedAfterMs: 1 }));
  expect(await sweeper.sweep()).toBe(1);
  // A receipt that names the agent may not be settled yet: the proof outlives the execution.
  expect(await life.agents.many([agentId])).toMatchObject([{ id: agentId, report: { proved: true } }]);
  expect(await keysOf(unproved)).toEqual([expect.stringContaining(`:proved:${agentId}`)]);
});

it('memory takes nothing that has just ended', async () => {
  const id = await ended();
  expect(await new EndedExecutions(valkey, new StateRoom(valkey, 1), {}).sweep()).toBe(0);
  expect(await listed()).toContain(id);
  expect(await new EndedExecutions(valkey, new StateRoom(valkey, 1), {}, 0).sweep()).toBeGreaterThan(0);
});

it('removes the oldest until the memory is well below its bound, and no more', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 60; i++) ids.push(await ended('x'.repeat(200_000)));
  const { usedBytes = 0 } = (await valkey.memory.atNow('any')) ?? {};
  const limit = usedBytes;
  const removed = await new EndedExecutions(valkey, new StateRoom(valkey, limit), {}, 0).sweep();
  expect(removed).toBeGreaterThan(0);
  expect(removed).toBeLessThan(40);
  expect(await listed()).toEqual(ids.slice(removed));
  expect((await valkey.memory.atNow('any'))?.usedBytes).toBeLessThan(limit * 0.92);
});

it('one that cannot be read keeps no other from going', async () => {
  const [broken, other] = [await ended(), await ended()];
  const key = `${valkey.keys.execution(broken)}:unproved`;
  await valkey.redis.set(key, 'no set');
  expect(await new EndedExecutions(valkey, new StateRoom(valkey), { maxEnded: 0 }).sweep()).toBe(1);
  expect(await keysOf(other)).toEqual([]);
  expect(await keysOf(broken)).not.toEqual([]);
});

it('a pass removes a bounded number, and the next one goes on', async () => {
  for (let i = 0; i < 205; i++) await ended();
  const sweeper = new EndedExecutions(valkey, new StateRoom(valkey, 1), {}, 0);
  expect(await sweeper.sweep()).toBe(200);
  expect(await sweeper.sweep()).toBe(5);
});

it('waits until the server has freed the removed memory before it judges the memory again', async () => {
  const ids = [];
  for (let i = 0; i < 25; i++) ids.push(await ended());
  const [full, low] = [100, 10];
  // The server's answers in order: one for each of two shards, the looks until the server has freed memory, and one
  // for each shard after.
  const looks = [full, full, full, full, low].map((usedBytes, at) => ({
    usedBytes,
    freeing: at < 4 ? 1 : 0,
  }));
  const atNow = jest.spyOn(valkey.memory, 'atNow').mockImplementation(async () => {
    const look = (looks.length > 1 ? looks.shift() : looks[0]) as { usedBytes: number; freeing: number };
    return Promise.resolve(look as never);
  });
  try {
    expect(await new EndedExecutions(valkey, new StateRoom(valkey, full), {}, 0).sweep()).toBe(10);
  } finally {
    atNow.mockRestore();
  }
  expect(await listed()).toEqual(ids.slice(10));
});

it('an execution that was stopped before any agent began goes like the others', async () => {
  const id = await createExecution(life, spec([node('a')]), false);
  await life.executions.stop(id, { reason: 'user_abort' });
  await advanceAll(life, id);
  expect(await new EndedExecutions(valkey, new StateRoom(valkey), { maxEnded: 0 }).sweep()).toBe(1);
  expect(await keysOf(id)).toEqual([]);
});

it('ends with the error of a server that is away', async () => {
  await ended();
  const away = new Error('Connection is closed.');
  const hscan = jest.spyOn(valkey.redis, 'hscan').mockRejectedValueOnce(away);
  await expect(new EndedExecutions(valkey, new StateRoom(valkey), { maxEnded: 0 }).sweep()).rejects.toBe(
    away,
  );
  hscan.mockRestore();
});
