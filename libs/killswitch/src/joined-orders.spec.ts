import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext, type StartedAgent } from '../../../test/support/life';
import type { KillswitchService } from './killswitch.service';
import type { LatchStore } from './latch-store';
import type { OrderStore } from './order-store';

let life: LifecycleService;
let valkey: Valkey;
let orders: OrderStore;
let latches: LatchStore;
let killswitch: KillswitchService;
useKillswitch((rig) => ({ life, valkey, orders, latches, killswitch } = rig));

const running = async (): Promise<StartedAgent> =>
  startNext(life, await createExecution(life, spec([node('a')])));

describe('R20 R53 an order with a latch, while an earlier one is open whose latch was released', () => {
  it.each(['execution', 'agent'] as const)('a kill of an %s engages its own latch', async (type) => {
    const { id, agentId } = await running();
    const scope = type === 'agent' ? { type, agentId } : { type, executionId: id };
    const before = await killswitch.placeOrder({ scope, by: 'me', latch: true });
    await latches.release(before.latchId ?? '', 'me', 'a mistake');
    const after = await killswitch.placeOrder({ scope, by: 'me', latch: true });
    expect(after.id).not.toBe(before.id);
    expect((await latches.list()).map(({ orderId }) => orderId)).toContain(after.id);
  });

  it('a kill with a latch joins an open one while its latch is engaged', async () => {
    const { id } = await running();
    const scope = { type: 'execution', executionId: id } as const;
    const before = await killswitch.placeOrder({ scope, by: 'me', latch: true });
    const after = await killswitch.placeOrder({ scope, by: 'me', latch: true });
    expect(after.id).toBe(before.id);
  });

  it('a freeze is carried out, and stays in force', async () => {
    const { agentId } = await running();
    const scope = { type: 'agent', agentId } as const;
    const before = await killswitch.placeOrder({ kind: 'freeze', scope, by: 'me', latch: true });
    await latches.release(before.latchId ?? '', 'me', 'a mistake');
    const after = await killswitch.placeOrder({ kind: 'freeze', scope, by: 'me', latch: true });
    expect(after.id).not.toBe(before.id);
    await killswitch.sweep();
    expect((await orders.receipt(after.id)).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
  });
});

describe('R22 two freezes of one execution, one of them with a latch', () => {
  it.each([
    ['a pause that freezes does not join a freeze with a latch: the latch’s release must not thaw it', true],
    ['a freeze with a latch does not join a pause that freezes: a resume must not thaw it', false],
  ])('%s', async (_what, isLatchFirst) => {
    const { id } = await running();
    const scope = { type: 'execution', executionId: id } as const;
    await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
    const first = await killswitch.placeOrder({ kind: 'freeze', scope, by: 'me', latch: isLatchFirst });
    const second = await killswitch.placeOrder({ kind: 'freeze', scope, by: 'me', latch: !isLatchFirst });
    expect(second.id).not.toBe(first.id);
    expect(second.latchId === undefined).toBe(isLatchFirst);
  });
});

describe('R20 R53 a kill, while an earlier one is open whose record cannot be read', () => {
  it.each([
    ['is of another type', async (key: string) => valkey.redis.multi().del(key).set(key, 'x').exec()],
    ['is no JSON', async (key: string) => valkey.redis.hset(key, 'order', '{')],
  ])('is stored and reaches the agent: the record %s', async (_what, spoil) => {
    const { id, agentId } = await running();
    const scope = { type: 'execution', executionId: id } as const;
    const first = await killswitch.placeOrder({ scope, by: 'me', latch: false });
    await spoil(valkey.keys.order(first.id));
    const second = await killswitch.placeOrder({ scope, by: 'me', latch: false });
    expect(second.id).not.toBe(first.id);
    expect((await orders.receipt(second.id)).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
  });
});
