import { MAX_LATCHES, type Order, type TargetReceipt } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import { orderStores } from '../../../test/support/killswitch';
import { useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { ControlSettings } from './control-settings';
import { newLatch, type LatchStore } from './latch-store';
import { OrderStore } from './order-store';

const ALL = { type: 'all' } as const;
const EXECUTION = { type: 'execution', executionId: 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ' } as const;

let valkey: Valkey;
let orders: OrderStore;
let latches: LatchStore;
useLife((rig) => ({ valkey } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  ({ latches, orders } = orderStores(valkey));
});

const target = (nodeId: string, outcome: TargetReceipt['outcome']): TargetReceipt => ({
  agentId: `agt_${nodeId}`,
  executionId: EXECUTION.executionId,
  nodeId,
  workerId: 'wrk_1',
  outcome,
});

const asked = (over: Partial<Order> = {}) => ({
  id: `ord_${ulid()}`,
  kind: 'kill' as const,
  scope: EXECUTION,
  mode: 'graceful' as const,
  reason: 'killswitch' as const,
  by: 'ann',
  ...over,
});

/** Collects the doorbell's messages from here on. */
async function listen(): Promise<{ heard: string[]; stop: () => void }> {
  const heard: string[] = [];
  const ears = valkey.connections.create('subscriber');
  ears.on('message', (_channel: string, message: string) => heard.push(message));
  await ears.subscribe(valkey.keys.doorbellChannel);
  return { heard, stop: () => ears.disconnect() };
}

describe('R19 a receipt', () => {
  it('is not complete before the giver has named every target, although all that were reported are dead', async () => {
    const { order } = await orders.place(asked());
    await orders.report(order.id, target('early', 'killed'));
    await orders.addTargets(order.id, [], false);
    expect(await orders.progress(order.id)).toEqual({ state: 'open', isResolved: false });
    await orders.addTargets(order.id, [target('early', 'pending'), target('late', 'pending')], true);
    expect(await orders.state(order.id)).toBe('open');
    await orders.report(order.id, target('late', 'killed'));
    expect(await orders.receipt(order.id)).toMatchObject({ complete: true, totals: { killed: 2, total: 2 } });
  });

  it('R51 keeps an outcome that was confirmed, whatever is reported after it', async () => {
    const { order } = await orders.place(asked());
    await orders.addTargets(order.id, [target('a', 'pending'), target('b', 'pending')], true);
    await orders.report(order.id, target('a', 'killed'));
    const { digest } = await orders.receipt(order.id);
    for (const later of ['unconfirmed', 'already-ended', 'pending', 'killed'] as const)
      await orders.report(order.id, target('a', later));
    expect(await orders.receipt(order.id)).toMatchObject({
      complete: false,
      digest,
      totals: { total: 2, killed: 1, pending: 1, unconfirmed: 0, alreadyEnded: 0 },
      missing: [{ agentId: 'agt_b' }],
    });
    // A target that was not confirmed may be confirmed later.
    await orders.report(order.id, target('b', 'unconfirmed'));
    await orders.report(order.id, target('b', 'killed'));
    expect(await orders.receipt(order.id)).toMatchObject({ complete: true, totals: { killed: 2 } });
  });
});

describe('R51 the grade of a receipt', () => {
  const seenDead = (nodeId: string, kind: 'descent-empty' | 'sweep-empty'): TargetReceipt => ({
    ...target(nodeId, 'killed'),
    report: {
      containment: kind === 'descent-empty' ? 'cgroup' : 'marks',
      proved: true,
      processes: [],
      signals: [],
      evidence: [{ kind, afterMs: 1 }],
      survivors: [],
      escalated: false,
    },
  });

  it('is the lowest of its targets, and each target tells its own', async () => {
    const { order } = await orders.place(asked());
    await orders.addTargets(order.id, [target('a', 'pending'), target('b', 'pending')], true);
    await orders.report(order.id, seenDead('a', 'descent-empty'));
    expect(await orders.receipt(order.id)).toMatchObject({ grade: 'kernel' });
    await orders.report(order.id, seenDead('b', 'sweep-empty'));
    expect(await orders.receipt(order.id)).toMatchObject({
      complete: true,
      grade: 'marks',
      targets: [{ grade: 'kernel' }, { grade: 'marks' }],
    });
  });

  it('with BELAY_PROOF=kernel a target that marks saw dead is unconfirmed, and says why', async () => {
    const strict = new OrderStore(valkey, new ControlSettings(valkey, 60_000), latches, 'kernel');
    const { order } = await strict.place(asked());
    await strict.addTargets(order.id, [target('a', 'pending'), target('b', 'pending')], true);
    await strict.report(order.id, seenDead('a', 'descent-empty'));
    await strict.report(order.id, seenDead('b', 'sweep-empty'));
    expect(await strict.receipt(order.id)).toMatchObject({
      complete: false,
      totals: { killed: 1, unconfirmed: 1 },
      missing: [{ agentId: 'agt_b' }],
      targets: [
        { outcome: 'killed' },
        { outcome: 'unconfirmed', detail: expect.stringContaining('BELAY_PROOF') as string },
      ],
    });
  });
});

describe('R20 R22 which order another one joins', () => {
  const id = async (kind: Order['kind'], over: Partial<Order> = {}): Promise<string> =>
    (await orders.place(asked({ kind, ...over }))).order.id;

  it('is the open one of the same kind', async () => {
    for (const kind of ['kill', 'freeze', 'thaw'] as const) expect(await id(kind)).toBe(await id(kind));
  });

  it('is no freeze from before a thaw, and no thaw from before a freeze: their trees have moved on', async () => {
    const freeze = await id('freeze');
    const thaw = await id('thaw');
    const again = await id('freeze');
    expect(again).not.toBe(freeze);
    expect(await id('thaw')).not.toBe(thaw);
    expect(await id('freeze')).not.toBe(again);
    // A kill is neither a freeze nor a thaw.
    const kill = await id('kill');
    await id('freeze');
    expect(await id('kill')).toBe(kill);
  });

  it('R19 is no order with a grace of its own, where none is asked for: that of the nodes may be over sooner', async () => {
    const long = await id('kill', { graceMs: 600_000 });
    expect(await id('kill', { graceMs: 600_000 })).toBe(long);
    const plain = await id('kill');
    expect(plain).not.toBe(long);
    expect(await id('kill')).toBe(plain);
  });
});

describe('R52 the doorbell', () => {
  it('is rung by the script that stores an order, once it is stored; joining one rings nothing', async () => {
    const { heard, stop } = await listen();
    const { order } = await orders.place(asked());
    expect(await orders.place(asked())).toMatchObject({ created: false, order: { id: order.id } });
    const { order: last } = await orders.place(asked({ scope: ALL }));
    await eventually(() => heard.some((text) => text.includes(last.id)), 'the last order', 10_000);
    expect(heard.map((text) => JSON.parse(text) as unknown)).toEqual([{ order }, { order: last }]);
    stop();
  });

  it('of an order with a latch is rung once, when every shard has the latch', async () => {
    const { heard, stop } = await listen();
    const held: boolean[] = [];
    const publish = valkey.redis.publish.bind(valkey.redis);
    const rung = jest.spyOn(valkey.redis, 'publish').mockImplementation(async (channel, message) => {
      for (const tag of valkey.keys.tags())
        held.push((await valkey.redis.hget(valkey.keys.shard(tag, 'latches'), 'version')) !== null);
      return publish(channel, message);
    });
    const latch = newLatch('latch', ALL, { by: 'ann' });
    const { order } = await orders.place(asked({ scope: ALL, latchId: latch.id }), latch);
    await eventually(() => heard.length > 0, 'the doorbell', 10_000);
    rung.mockRestore();
    expect(held).toEqual(valkey.keys.tags().map(() => true));
    expect(heard.map((text) => JSON.parse(text) as unknown)).toEqual([{ order }]);
    stop();
  });
});

describe('the bound on latches', () => {
  const fill = async (count: number): Promise<void> => {
    const names = Array.from({ length: count }, (_, i) => `lat_${String(i).padStart(26, '0')}`);
    const latch = (id: string) => JSON.stringify({ id, kind: 'latch', scope: ALL, by: 'ann', engagedAt: 1 });
    await valkey.redis.hset(
      valkey.keys.shard(valkey.keys.control, 'latches'),
      ...names.flatMap((id) => [id, latch(id)]),
    );
  };
  const tooMany = { code: 'TOO_MANY_LATCHES' };

  it('refuses one more, changes nothing by it, and takes one that is engaged already', async () => {
    await fill(MAX_LATCHES - 1);
    const last = newLatch('latch', EXECUTION, { by: 'ann' });
    await latches.engage(last);
    await expect(latches.engage(newLatch('latch', EXECUTION, { by: 'ann' }))).rejects.toMatchObject(tooMany);
    expect(await latches.list()).toHaveLength(MAX_LATCHES);
    // The answer was lost, so the call is repeated.
    expect(await latches.engage(last)).toMatchObject({ id: last.id });
    await latches.release(last.id, 'ann', 'over');
    await latches.engage(newLatch('latch', EXECUTION, { by: 'ann' }));
  });

  it('leaves room for those of kills; beyond that a kill with a latch is refused whole, one without is placed', async () => {
    await fill(MAX_LATCHES);
    const latch = newLatch('latch', EXECUTION, { by: 'ann' });
    expect(await orders.place(asked({ latchId: latch.id }), latch)).toMatchObject({
      created: true,
    });
    await fill(5 * MAX_LATCHES);
    const other = newLatch('latch', ALL, { by: 'ann' });
    const refused = asked({ scope: ALL, latchId: other.id });
    await expect(orders.place(refused, other)).rejects.toMatchObject(tooMany);
    await expect(orders.state(refused.id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await orders.place(asked({ scope: ALL }))).toMatchObject({ created: true });
  });
});
