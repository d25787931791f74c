import type { LifecycleService } from '#libs/lifecycle';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/fleet';
import { AgentQueues } from './agent-queues';

let life: LifecycleService;
let queues: AgentQueues;
useLife((rig) => ({ life } = rig));
beforeAll(() => (queues = new AgentQueues(life, { prefix: 'bull' })));
afterAll(async () => queues.close());
beforeEach(async () => life.valkey.redis.flushall());

const inQueue = async (state: string): Promise<string[]> =>
  life.valkey.redis.zrange(`bull:belay-agents-default:${state}`, 0, '-1');

describe('R42 an attempt that a worker refuses', () => {
  it('is handed over again from the outbox: no wall clock says when', async () => {
    const id = await createExecution(life, spec([node('a', { priority: 7 })]));
    const [entry] = await advanceAll(life, id);
    await queues.dispatch([entry!]);
    let taken = 0;
    const delayed: string[] = [];
    const consumer = queues.consume('default', 1, async () => {
      delayed.push(...(await inQueue('delayed')));
      return ++taken === 3 ? 'done' : 'refused';
    });
    await eventually(async () => taken === 3, 'the third taking');
    await consumer.close();
    expect(delayed).toEqual([]);
  });

  it('by one that closes is there for the next at once', async () => {
    const id = await createExecution(life, spec([node('a')]));
    const [entry] = await advanceAll(life, id);
    await queues.dispatch([entry!]);
    let closing: Promise<void> | undefined;
    const consumer = queues.consume('default', 1, async () => {
      closing ??= consumer.close();
      return 'refused';
    });
    await eventually(async () => closing !== undefined, 'the taking');
    await closing;
    await eventually(async () => (await inQueue('prioritized')).includes(entry!.agentId), 'the job');
    const { keys, redis } = life.valkey;
    expect(await redis.hexists(keys.shard(keys.tagOf(id), 'outbox'), entry!.agentId)).toBe(1);
  });
});

describe('R22 R53 an attempt that was parked and is let go on at once', () => {
  let version = 0;
  const copy = async (tag: string, latches: object[], free: number): Promise<void> => {
    const { keys, scripts } = life.valkey;
    const args = [tag, ++version, JSON.stringify(latches), free];
    await scripts.json('copyLatches', keys.shard(tag, 'latches'), args);
  };
  const latch = { id: 'lat_1', kind: 'freeze', scope: { type: 'pool', pool: 'default' } };

  it.each(['a latch', 'a pause'])(
    'by %s: its job is still in hand when it is handed over again',
    async (by) => {
      const id = await createExecution(life, spec([node('a')]));
      const tag = life.valkey.keys.tagOf(id);
      const [entry] = await advanceAll(life, id);
      await queues.dispatch([entry!]);
      let taken = 0;
      const consumer = queues.consume('default', 1, async (job) => {
        if (++taken > 1) return 'done';
        if (by === 'a latch') await copy(tag, [latch], 0);
        else await life.executions.pause(id, { mode: 'drain', actor: 'me' });
        expect(await life.agents.claim(job, 'wrk_1', 'token')).toMatchObject({ claimed: false });
        if (by === 'a latch') {
          await copy(tag, [], 500);
          expect(await queues.sweep(tag)).toBe(1);
        } else {
          await life.executions.resume(id, 'me');
          await queues.dispatch(await advanceAll(life, id));
        }
        return 'parked';
      });
      try {
        await eventually(() => taken === 2, 'the second taking', 10_000);
      } finally {
        await consumer.close(true);
      }
    },
    20_000,
  );

  it('before it was noted that it had been handed over: a sweep finds it due', async () => {
    const id = await createExecution(life, spec([node('a')]));
    const { keys, scripts } = life.valkey;
    const tag = keys.tagOf(id);
    const [entry] = await advanceAll(life, id);
    const run = scripts.run.bind(scripts);
    const late = jest.spyOn(scripts, 'run').mockImplementation(async (...args) => {
      if (args[0] === 'ackOutbox') {
        late.mockRestore();
        await copy(tag, [latch], 0);
        await life.agents.claim(entry!, 'wrk_1', 'token');
        await queues.drop([[entry!.agentId, 'default']]);
        await copy(tag, [], 500);
      }
      return run(...args);
    });
    await queues.dispatch([entry!]);
    expect(await inQueue('prioritized')).not.toContain(entry!.agentId);
    expect(await queues.sweep(tag)).toBe(1);
    expect(await inQueue('prioritized')).toContain(entry!.agentId);
    // The sweep handed it over, and now leaves it to its queue.
    expect(await queues.sweep(tag)).toBe(0);
  });
});

describe('R33 a wait before an attempt', () => {
  afterEach(() => jest.restoreAllMocks());

  it.each([
    ['an hour behind', -3_600_000],
    ['an hour ahead', 3_600_000],
  ])(
    'ends when it should on a machine whose wall clock is %s',
    async (_what, offMs) => {
      const now = Date.now.bind(Date);
      jest.spyOn(Date, 'now').mockImplementation(() => now() + offMs);
      const id = await createExecution(life, spec([node('a', { delayMs: 700 })]));
      const [entry] = await advanceAll(life, id);
      const begun = performance.now();
      let takenAt = 0;
      const consumer = queues.consume('default', 1, async () => {
        takenAt ||= performance.now();
        return 'done';
      });
      try {
        await queues.dispatch([entry!]);
        await eventually(() => takenAt > 0, 'the taking', 10_000);
        expect(takenAt - begun).toBeGreaterThanOrEqual(690);
      } finally {
        await consumer.close(true);
      }
    },
    20_000,
  );

  it('is ended by a sweep when its process is gone: due by the clock of the server', async () => {
    const id = await createExecution(life, spec([node('a', { delayMs: 600_000 })]));
    const { keys, redis } = life.valkey;
    const at = keys.shard(keys.tagOf(id), 'outbox:at');
    const [entry] = await advanceAll(life, id);
    const left = Number(await redis.zscore(at, entry!.agentId)) - (await life.valkey.timeAt(at));
    expect([left > 500_000, left <= 600_000]).toEqual([true, true]);
    await queues.dispatch([entry!]);
    expect(await queues.sweep(keys.tagOf(id))).toBe(0);
    await redis.zincrby(at, -700_000, entry!.agentId);
    expect(await queues.sweep(keys.tagOf(id))).toBe(1);
    expect(await inQueue('prioritized')).toContain(entry!.agentId);
  });

  it('that was cancelled meanwhile ends without a job', async () => {
    const id = await createExecution(life, spec([node('a', { delayMs: 50 })]));
    const [entry] = await advanceAll(life, id);
    await queues.dispatch([entry!]);
    await life.executions.stop(id, { reason: 'user_abort' });
    await advanceAll(life, id);
    const looks = jest.spyOn(life.valkey.redis, 'hexists');
    await eventually(() => looks.mock.results.length > 0, 'the end of its wait', 10_000);
    await looks.mock.results[0]!.value;
    expect(await inQueue('prioritized')).not.toContain(entry!.agentId);
  });
});
