import type { LifecycleService } from '#libs/lifecycle';
import { useKillswitch } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext } from '../../../test/support/life';
import type { KillswitchService } from './killswitch.service';
import type { OrderStore } from './order-store';

let life: LifecycleService;
let orders: OrderStore;
let killswitch: KillswitchService;
useKillswitch((rig) => ({ life, orders, killswitch } = rig));

describe('R22 R51 the receipt of a freeze whose worker has not answered', () => {
  it('is completed from the record of an agent only by the order that saw its tree stand still', async () => {
    const { agentId, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    const freeze = { kind: 'freeze', scope: { type: 'agent', agentId }, by: 'me', latch: true } as const;
    const first = await killswitch.placeOrder(freeze);
    await life.agents.markFrozen(fence, true, first.id);
    await killswitch.sweep();
    expect(await orders.receipt(first.id)).toMatchObject({ complete: true, totals: { frozen: 1 } });
    // Another hold: the end of the first does not prove that this one took effect.
    const second = await killswitch.placeOrder(freeze);
    await killswitch.sweep();
    expect(await orders.receipt(second.id)).toMatchObject({ complete: false, totals: { pending: 1 } });
  });
});
