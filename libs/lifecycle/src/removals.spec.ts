import { shardOf } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import {
  advanceAll,
  createExecution,
  node,
  spec,
  startAll,
  startNext,
  stopReport,
  useLife,
} from '../../../test/support/life';
import { LifecycleService } from './lifecycle.service';

const SAID = { by: 'ops', role: 'operator', requestId: 'req_1' } as const;
const ABSENT = 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ';

let valkey: Valkey;
let life: LifecycleService;

useLife((rig) => ({ valkey } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  await valkey.observeClock();
  life = new LifecycleService(valkey, { retentionMs: 3_600_000 });
});

/** Creates an execution with two nodes that has ended, and a log of each agent. Resolves with its id. */
async function ended(
  outcome: Parameters<LifecycleService['agents']['finish']>[1] = { state: 'completed', result: 1 },
): Promise<string> {
  const made = spec([node('a'), node('b')], { labels: { team: 'x' }, idempotencyKey: 'once' });
  const id = await createExecution(life, made);
  for (const agent of await startAll(life, id)) {
    const line = { n: 1, offset: 0, stream: 'stdout', bytes: Buffer.from('x'), ends: true } as const;
    const file = { workerId: 'wrk_1', host: 'here', path: '/x' };
    await life.logs.append(id, agent.agentId, [line], file);
    await life.agents.finish(agent.fence, outcome);
  }
  return id;
}

/** All keys whose names contain the execution's id. */
const keysOf = async (id: string): Promise<string[]> => valkey.redis.keys(`*${id.slice(4)}*`);
const unfinished = async (): Promise<string[]> => (await life.removals.left(0)).map((one) => one.executionId);

describe('the deletion of an ended execution', () => {
  it('takes its record, its agents, their logs and its idempotency key', async () => {
    const id = await ended();
    expect((await keysOf(id)).filter((key) => key.includes(':log:'))).toHaveLength(4);
    const agents = (await life.agents.list({ executionId: id })).map((agent) => agent.id);
    expect(agents).toHaveLength(2);
    const removal = await life.removals.begin(id, SAID);
    expect(removal).toMatchObject({ executionId: id, state: 'completed', said: SAID });
    await expect(life.executions.get(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await life.agents.list({ executionId: id })).toEqual([]);
    // So the workers remove the log files, also a worker that is away now.
    expect(await life.agents.named(agents)).toEqual([]);
    await life.removals.finish(removal);
    expect(await keysOf(id)).toEqual([]);
    expect((await life.executions.list({ labels: ['team=x'] })).items).toEqual([]);
    expect(await life.executions.isKeyTaken('once')).toBe(false);
    expect(await valkey.redis.keys('*removals*')).toEqual([]);
    expect(await valkey.redis.keys('*idx:agt:ended*')).toEqual([]);
  });

  it('is refused a second time, and answered again where the first reply was lost', async () => {
    const id = await ended();
    const first = await life.removals.begin(id, SAID, 'try-1');
    expect(await life.removals.begin(id, SAID, 'try-1')).toEqual(first);
    await expect(life.removals.begin(id, SAID, 'try-2')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await life.removals.finish(first);
    await expect(life.removals.begin(id, SAID, 'try-1')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('is refused for an execution that does not exist, and for one whose record has expired', async () => {
    await expect(life.removals.begin(ABSENT, SAID)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const id = await ended();
    await valkey.redis.del(valkey.keys.execution(id));
    await expect(life.removals.begin(id, SAID)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it.each(['idle', 'running', 'stopping'])(
    'is refused while it is %s, and removes nothing',
    async (state) => {
      const id = await createExecution(life, spec([node('a')]), state !== 'idle');
      if (state === 'stopping') {
        await startNext(life, id);
        await life.executions.stop(id, { reason: 'user_abort' });
      }
      const before = await keysOf(id);
      await expect(life.removals.begin(id, SAID)).rejects.toMatchObject({
        code: 'NOT_ENDED',
        message: `Execution ${id} is ${state}. Only an ended one can be deleted: stop it first (belay stop ${id}), or wait for its end.`,
        details: { id, state },
      });
      expect((await keysOf(id)).toSorted()).toEqual(before.toSorted());
    },
  );

  it('R51 is refused while an attempt of it was never seen dead, until it is proved', async () => {
    const id = await ended({ state: 'failed', reason: 'worker_lost', lost: true });
    const [lost] = await life.agents.unproved();
    const agentId = lost?.id ?? '';
    await expect(life.removals.begin(id, SAID)).rejects.toMatchObject({
      code: 'NOT_PROVED',
      message: expect.stringMatching(/^Agent \S+ and 1 more of \S+ was lost and never seen dead: /),
      details: { id },
    });
    expect(await life.executions.get(id)).toMatchObject({ state: 'failed' });
    for (const { id: one, owner } of await life.agents.unproved())
      await life.agents.prove(one, owner, stopReport({ provedAfterMs: 1 }));
    await life.removals.finish(await life.removals.begin(id, SAID));
    // A receipt that names the agent may not be settled yet: the proof outlives the execution.
    expect(await life.agents.many([agentId])).toMatchObject([{ id: agentId, report: { proved: true } }]);
  });

  it('R51 is refused while an agent of a failed execution lives', async () => {
    const id = await createExecution(life, spec([node('a')]));
    const { agentId } = await startNext(life, id);
    await life.executions.stop(id, { reason: 'user_abort' });
    await life.executions.transition(id, 'failed', { from: 'stopping' });
    await expect(life.removals.begin(id, SAID)).rejects.toMatchObject({
      code: 'NOT_PROVED',
      message: expect.stringContaining(`Agent ${agentId} of ${id} still counts as running`),
      details: { id, agentId, count: 1 },
    });
  });

  it('R51 is refused for a minute while the receipt of an open order may need the record', async () => {
    const id = await ended();
    const { redis, keys } = valkey;
    await redis.sadd(keys.shard(keys.control, 'orders:open'), 'ord_1');
    const refusal: unknown = await life.removals.begin(id, SAID).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: 'ORDER_OPEN', details: { id } });
    const { retryAfterMs } = (refusal as { details: { retryAfterMs: number } }).details;
    expect(retryAfterMs).toBeGreaterThan(30_000);
    expect(retryAfterMs).toBeLessThanOrEqual(60_000);
    // An order that nobody completes keeps the execution no longer.
    await redis.hset(keys.execution(id), 'completedAt', valkey.clock.now() - 60_001);
    expect(await life.removals.begin(id, SAID)).toMatchObject({ state: 'completed' });
  });

  it('R51 is refused while the receipt of an open order misses one of its agents, however old it is', async () => {
    const id = await ended();
    const { redis, keys } = valkey;
    await redis.hset(keys.execution(id), 'completedAt', valkey.clock.now() - 3_600_000);
    await redis.sadd(keys.shard(keys.control, 'orders:open'), 'ord_1', 'ord_2');
    await redis.sadd(keys.orderMissing('ord_1'), 'agt_of_another');
    expect(await life.removals.neededBy(id)).toBeUndefined();
    expect(await life.removals.neededBy(ABSENT)).toBeUndefined();
    const [agent] = await life.agents.list({ executionId: id });
    await redis.sadd(keys.orderMissing('ord_2'), agent?.id ?? '');
    await expect(life.removals.begin(id, SAID)).rejects.toMatchObject({
      code: 'ORDER_OPEN',
      message: expect.stringContaining('The receipt of order ord_2 still needs the record'),
      details: { id, orderId: 'ord_2' },
    });
    await redis.srem(keys.orderMissing('ord_2'), agent?.id ?? '');
    expect(await life.removals.begin(id, SAID)).toMatchObject({ state: 'completed' });
  });

  it('R81 has no author where the record was gone before: the caller is told that there was none', async () => {
    const id = await ended();
    await valkey.redis.del(valkey.keys.execution(id));
    await expect(life.removals.begin(id, SAID)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const [left] = await life.removals.left(0);
    expect(left).toMatchObject({ executionId: id });
    expect(left?.said).toBeUndefined();
  });

  it('is finished by another process when its own has died in between, and not before that is clear', async () => {
    const id = await ended();
    const { id: removalId } = await life.removals.begin(id, SAID);
    expect(await life.removals.left()).toEqual([]);
    const [left] = await life.removals.left(0);
    expect(left).toMatchObject({ id: removalId, executionId: id, state: 'completed', said: SAID });
    expect((await keysOf(id)).filter((key) => key.includes(':log:'))).toHaveLength(4);
    await life.removals.finish({ executionId: id });
    await life.removals.finish({ executionId: id });
    expect(await keysOf(id)).toEqual([]);
    expect(await unfinished()).toEqual([]);
  });

  it('an entry that cannot be read is set aside, and hides no other', async () => {
    const id = await ended();
    await life.removals.begin(id, SAID);
    const { redis, keys } = valkey;
    await redis.hset(keys.shard(keys.shardTag(shardOf(ABSENT, 2)), 'removals'), ABSENT, '{');
    expect(await unfinished()).toEqual([id]);
    expect(await valkey.quarantine.list()).toMatchObject([{ field: ABSENT }]);
  });

  it('agents that cannot be read go with the others, and their execution is forgotten', async () => {
    const id = await ended();
    await valkey.redis.del(valkey.keys.execution(id, 'agents'));
    await valkey.redis.set(valkey.keys.execution(id, 'agents'), 'no hash');
    await life.removals.finish(await life.removals.begin(id, SAID));
    expect((await keysOf(id)).every((key) => key.includes(':log:'))).toBe(true);
    expect(await unfinished()).toEqual([]);
  });

  it('a retry after it finds nothing', async () => {
    const id = await createExecution(life, spec([node('a')]), false);
    await life.executions.stop(id, { reason: 'user_abort' });
    await advanceAll(life, id);
    await life.removals.finish(await life.removals.begin(id, SAID));
    await expect(
      life.executions.retry(id, { retryId: 'r', actor: 'ops', force: false }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
