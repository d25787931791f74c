import type { Scope } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import { useKillswitch } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext, type StartedAgent } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import type { KillswitchService } from './killswitch.service';
import type { OrderStore } from './order-store';

let valkey: Valkey;
let life: LifecycleService;
let orders: OrderStore;
let killswitch: KillswitchService;
useKillswitch((rig) => ({ valkey, life, orders, killswitch } = rig));
beforeEach(async () => valkey.redis.flushall());
afterEach(() => jest.restoreAllMocks());

/** The ids of all placed orders, in the order of the log. */
async function kinds(): Promise<string[]> {
  const { items } = await orders.list();
  return items.map(({ order }) => order.kind).toReversed();
}

const running = async (): Promise<StartedAgent> =>
  startNext(life, await createExecution(life, spec([node('a')])));

const freezeAgain = async (executionId: string): Promise<void> => {
  await life.executions.pause(executionId, { mode: 'freeze', actor: 'me' });
  await killswitch.placeOrder({ kind: 'freeze', scope: { type: 'execution', executionId }, by: 'me' });
};

describe('R22 an execution that is frozen again while the thaw of its resume is not given yet', () => {
  it('stays frozen where the process died that resumed it: the sweep gives no thaw', async () => {
    const { id } = await running();
    await freezeAgain(id);
    await life.executions.resume(id, 'me');
    await freezeAgain(id);
    await killswitch.sweep();
    expect(await kinds()).not.toContain('thaw');
  });

  it('is frozen once more after that thaw, where the process is only late', async () => {
    const { id } = await running();
    await freezeAgain(id);
    const resume = life.executions.resume.bind(life.executions);
    jest.spyOn(life.executions, 'resume').mockImplementationOnce(async (...asked) => {
      const resumed = await resume(...asked);
      await freezeAgain(id);
      return resumed;
    });
    await killswitch.holds.resume(id, { by: 'me' });
    const placed = await kinds();
    expect(placed).toContain('thaw');
    expect(placed.at(-1)).toBe('freeze');
  });

  it('is frozen once more by a sweep where the process dies right after its late thaw', async () => {
    const { id, fence } = await running();
    await freezeAgain(id);
    const resume = life.executions.resume.bind(life.executions);
    jest.spyOn(life.executions, 'resume').mockImplementationOnce(async (...asked) => {
      const resumed = await resume(...asked);
      const { mark = '' } = await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
      const scope = { type: 'execution', executionId: id } as const;
      const order = await killswitch.placeOrder({ kind: 'freeze', scope, by: 'me' });
      await life.agents.markFrozen(fence, true, order.id);
      await life.executions.freezeOrdered(id, mark);
      jest.spyOn(life.executions, 'get').mockRejectedValueOnce(new Error('killed'));
      return resumed;
    });
    await expect(killswitch.holds.resume(id, { by: 'me' })).rejects.toThrow('killed');
    jest.restoreAllMocks();
    expect((await kinds()).at(-1)).toBe('thaw');
    for (let i = 0; i < 3; i++) await killswitch.sweep();
    const placed = await kinds();
    expect(placed.slice(placed.lastIndexOf('thaw'))).toEqual(['thaw', 'freeze']);
  });

  it('is frozen once more where a sweep takes an earlier freeze back', async () => {
    const { id } = await running();
    await freezeAgain(id);
    const { mark = '' } = await life.executions.resume(id, 'me');
    await life.executions.thawOrdered(id, mark);
    const get = life.executions.get.bind(life.executions);
    jest.spyOn(life.executions, 'get').mockImplementationOnce(async (asked) => {
      const seen = await get(asked);
      await freezeAgain(id);
      return seen;
    });
    await killswitch.sweep();
    const placed = await kinds();
    expect(placed).toContain('thaw');
    expect(placed.at(-1)).toBe('freeze');
  });
});

describe('R22 an execution that a latch freezes while the thaw of its resume is not given yet', () => {
  const freezeAll = async (): Promise<string> => {
    const scope = { type: 'all' } as const;
    const { latchId = '' } = await killswitch.placeOrder({ kind: 'freeze', scope, by: 'me', latch: true });
    return latchId;
  };

  it('is thawed by the next sweep where the process died that resumed it: no release does that', async () => {
    const { id, fence } = await running();
    await freezeAgain(id);
    const [freeze] = await orders.open();
    await life.agents.markFrozen(fence, true, freeze?.id);
    await killswitch.sweep();
    expect(await orders.open()).toEqual([]);
    await life.executions.resume(id, 'me');
    await freezeAll();
    await killswitch.sweep();
    expect(await kinds()).toEqual(['freeze', 'freeze', 'thaw']);
  });

  it('gets no freeze of its own behind that thaw, since nobody would undo it', async () => {
    const { id } = await running();
    await freezeAgain(id);
    const resume = life.executions.resume.bind(life.executions);
    let latchId = '';
    jest.spyOn(life.executions, 'resume').mockImplementationOnce(async (...asked) => {
      const resumed = await resume(...asked);
      latchId = await freezeAll();
      return resumed;
    });
    await killswitch.holds.resume(id, { by: 'me' });
    expect(await kinds()).toEqual(['freeze', 'freeze', 'thaw']);
    await killswitch.holds.release(latchId, { by: 'me', note: 'over' });
    expect(await life.executions.get(id)).toMatchObject({ state: 'running' });
    expect((await kinds()).filter((kind) => kind === 'freeze')).toHaveLength(2);
  });
});

describe('R22 R51 a freeze of a resumed execution whose receipt lacks an attempt that nobody saw dead', () => {
  it('is taken back once, not with every sweep', async () => {
    const { id, fence } = await running();
    await freezeAgain(id);
    await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true });
    await killswitch.sweep();
    await life.executions.resume(id, 'me');
    await killswitch.sweep();
    const placed = await kinds();
    await killswitch.sweep();
    await killswitch.sweep();
    expect(await kinds()).toEqual(placed);
  });
});

describe('R22 a pause that freezes, whose orchestrator dies before it gave the order', () => {
  it('is carried out by the next sweep, once', async () => {
    const { id, agentId } = await running();
    await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
    await killswitch.sweep();
    await killswitch.sweep();
    expect(await kinds()).toEqual(['freeze']);
    const [freeze] = await orders.open();
    expect((await orders.receipt(freeze?.id ?? '')).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
  });

  it('is carried out by a sweep whose other steps fail', async () => {
    const { id, agentId } = await running();
    await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
    for (const read of ['held', 'thawing', 'thaws'] as const)
      jest.spyOn(life.executions, read).mockRejectedValueOnce(new Error('it cannot be read'));
    await killswitch.sweep();
    const [freeze] = await orders.open();
    expect((await orders.receipt(freeze?.id ?? '')).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
  });

  it('is not carried out once the execution was resumed or stopped, or is gone', async () => {
    const [resumed, stopped] = [await running(), await running()];
    for (const { id } of [resumed, stopped]) await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
    const { mark = '' } = await life.executions.resume(resumed.id, 'me');
    await life.executions.thawOrdered(resumed.id, mark);
    await life.executions.stop(stopped.id, { reason: 'user_abort' });
    const gone = `exe_${ulid()}`;
    await valkey.redis.sadd(valkey.keys.shard(valkey.keys.tagOf(gone), 'freezing'), gone);
    await killswitch.sweep();
    expect(await kinds()).not.toContain('freeze');
    expect(await life.executions.freezing()).toEqual([]);
  });

  it('gives no second order where the first was given', async () => {
    const { id, fence, agentId } = await running();
    const paused = killswitch.holds.pause(id, { mode: 'freeze', by: 'me' });
    await eventually(async () => (await orders.open()).length === 1, 'the order');
    const [freeze] = await orders.open();
    await life.agents.markFrozen(fence, true, freeze?.id);
    expect((await paused).receipt?.targets).toMatchObject([{ agentId, outcome: 'frozen' }]);
    await killswitch.sweep();
    expect(await kinds()).toEqual(['freeze']);
  });
});

describe('R22 a process that is late to say that its order is placed', () => {
  const scopeOf = (executionId: string): Scope => ({ type: 'execution', executionId });

  it('leaves a later freeze to the sweep, whose process died before it placed its order', async () => {
    const { id, fence } = await running();
    const ordered = life.executions.freezeOrdered.bind(life.executions);
    const late = jest.spyOn(life.executions, 'freezeOrdered').mockImplementationOnce(async (...asked) => {
      const { mark = '' } = await life.executions.resume(id, 'me');
      await killswitch.placeOrder({ kind: 'thaw', scope: scopeOf(id), by: 'me' });
      await life.executions.thawOrdered(id, mark);
      await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
      await ordered(...asked);
    });
    const paused = killswitch.holds.pause(id, { mode: 'freeze', by: 'me' });
    await eventually(() => late.mock.results.length > 0, 'the first order');
    await late.mock.results[0]?.value;
    await killswitch.sweep();
    expect(await kinds()).toEqual(['freeze', 'thaw', 'freeze']);
    for (const { id: orderId } of await orders.open()) await life.agents.markFrozen(fence, true, orderId);
    await paused;
  });

  it('leaves a later thaw to the sweep, whose process died before it placed its order', async () => {
    const { id } = await running();
    await freezeAgain(id);
    const ordered = life.executions.thawOrdered.bind(life.executions);
    jest.spyOn(life.executions, 'thawOrdered').mockImplementationOnce(async (...asked) => {
      await freezeAgain(id);
      await life.executions.resume(id, 'me');
      await ordered(...asked);
    });
    await killswitch.holds.resume(id, { by: 'me' });
    await killswitch.sweep();
    const placed = await kinds();
    expect(placed.slice(0, 3)).toEqual(['freeze', 'thaw', 'freeze']);
    // The sweep also takes the open freeze back, by the same thaw or by another.
    expect(new Set(placed.slice(3))).toEqual(new Set(['thaw']));
  });
});

describe('R22 an execution that a latch froze, and a person paused without a freeze', () => {
  it('is not called frozen once the latch is released', async () => {
    const { id } = await running();
    const { latchId = '' } = await killswitch.placeOrder({
      kind: 'freeze',
      scope: { type: 'all' },
      by: 'me',
      latch: true,
    });
    expect(await life.executions.get(id)).toMatchObject({ state: 'paused', frozen: true });
    await killswitch.holds.pause(id, { mode: 'drain', by: 'me' });
    await killswitch.holds.release(latchId, { by: 'me', note: 'over' });
    const { state, frozen } = await life.executions.get(id);
    expect([state, frozen]).toEqual(['paused', undefined]);
  });
});
