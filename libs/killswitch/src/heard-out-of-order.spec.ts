import type { Order } from '#libs/contracts';
import { AgentSlot, type AgentRunner, type HoldResult } from '#libs/spawner';
import type { Valkey } from '#libs/valkey';
import { Subject } from 'rxjs';
import { ulid } from 'ulid';
import { killOf, orderStores } from '../../../test/support/killswitch';
import { useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { KillResponder } from './kill-responder';
import type { OrderStore } from './order-store';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

let valkey: Valkey;
let orders: OrderStore;
let responder: KillResponder;
let slot: AgentSlot;
useLife((rig) => ({ valkey } = rig));
beforeEach(() => {
  orders = orderStores(valkey).orders;
  const executionId = `exe_${ulid()}`;
  const agentId = `agt_${executionId.slice(4)}-0-1`;
  slot = new AgentSlot({ agentId, executionId, nodeId: 'a', attempt: 1 }, WORKER);
  const fence = { agentId, owner: WORKER, epoch: 1 };
  slot.granted({ fence, claimedAt: 1, born: 1, pool: 'default', labels: {}, node: {} });
  responder = new KillResponder(valkey, orders, runner(), {
    workerId: WORKER,
    onError: (error) => {
      throw error;
    },
    describe: async () => ({ containment: 'marks', isolation: 'same-user', guardian: true, running: 0 }),
  });
});
afterEach(() => responder.stop());

/** A worker with one agent, whose process is not started yet. */
function runner(): AgentRunner {
  const held = async (done: Promise<void>): Promise<HoldResult> =>
    done.then(() => ({ slot, frozen: slot.frozen }));
  const those = (matches: (one: AgentSlot) => boolean): AgentSlot[] => [slot].filter(matches);
  return {
    ended$: new Subject(),
    slotsWhere: those,
    freezeWhere: (matches: (one: AgentSlot) => boolean, hold: string) =>
      those(matches).map(async (one) => held(one.freeze(hold))),
    thawWhere: (matches: (one: AgentSlot) => boolean, hold: string) =>
      those(matches).map(async (one) => held(one.thaw(hold))),
  } as unknown as AgentRunner;
}

const place = async (kind: Order['kind']): Promise<Order> =>
  (await orders.place({ ...killOf({ type: 'execution', executionId: slot.executionId }), kind })).order;

const hear = (order: Order): number => responder.apply({ order, reach: undefined });

const outcomeOf = async ({ id }: Order): Promise<string | undefined> =>
  (await orders.receipt(id)).targets[0]?.outcome;

describe('R22 R52 a freeze, a thaw and a freeze of one execution', () => {
  it('leave the tree still, although the doorbell of the thaw was lost and the log brings it last', async () => {
    const [first, thaw, again] = [await place('freeze'), await place('thaw'), await place('freeze')];
    hear(first);
    hear(again);
    hear(thaw);
    expect(slot.frozen).toBe(true);
    await eventually(async () => (await outcomeOf(thaw)) !== undefined, 'the answer to the thaw');
    expect(await outcomeOf(again)).toBe('frozen');
    // The one thaw that comes after both takes the hold off.
    const last = await place('thaw');
    hear(last);
    expect(slot.frozen).toBe(false);
    await eventually(async () => (await outcomeOf(last)) === 'thawed', 'the answer to the last thaw');
  });
});
