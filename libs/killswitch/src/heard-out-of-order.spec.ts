import { BelayError, type Order } from '#libs/contracts';
import { AgentSlot, type AgentProcess, type AgentSlots, type HoldResult } from '#libs/spawner';
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
  responder = new KillResponder(valkey, orders, agents(), {
    workerId: WORKER,
    onError: (error) => {
      throw error;
    },
    describe: async () => ({ containment: 'marks', isolation: 'same-user', guardian: true, running: 0 }),
  });
});
afterEach(() => responder.stop());

/** A worker with one agent, whose process is not started yet. */
function agents(): AgentSlots {
  const held = async (done: Promise<void>): Promise<HoldResult> =>
    done.then(
      () => ({ slot, frozen: slot.isStill }),
      (error: Error) => ({ slot, frozen: slot.isStill, error }),
    );
  const those = (matches: (one: AgentSlot) => boolean): AgentSlot[] => [slot].filter(matches);
  return {
    ended$: new Subject(),
    slotsWhere: those,
    freezeWhere: (matches: (one: AgentSlot) => boolean, hold: string) =>
      those(matches).map(async (one) => held(one.freeze(hold))),
    thawWhere: (matches: (one: AgentSlot) => boolean, hold: string) =>
      those(matches).map(async (one) => held(one.thaw(hold))),
  } as unknown as AgentSlots;
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
    // The only thaw that comes after both ends the hold.
    const last = await place('thaw');
    hear(last);
    expect(slot.frozen).toBe(false);
    await eventually(async () => (await outcomeOf(last)) === 'thawed', 'the answer to the last thaw');
  });
});

describe('R22 a freeze that could not stop the tree in time', () => {
  let tries: number;
  /** A process whose first freezes fail. */
  function startWith(failures: number): void {
    tries = 0;
    const freeze = async (): Promise<void> => {
      tries += 1;
      if (tries <= failures) throw new BelayError('TIMEOUT', 'not every process was seen stopped');
    };
    slot.hasProcess({ freeze, thaw: async () => undefined } as unknown as AgentProcess, undefined);
  }
  const beat = async (): Promise<void> =>
    responder.noticeHead({ ordersHead: '0-0', targets: 0 }, new AbortController().signal);

  it('is tried again with later heartbeats, until the processes were seen stopped', async () => {
    startWith(2);
    const freeze = await place('freeze');
    hear(freeze);
    await eventually(async () => (await outcomeOf(freeze)) === 'failed', 'the failure');
    await eventually(
      async () => {
        await beat();
        return (await outcomeOf(freeze)) === 'frozen';
      },
      'the freeze',
      15_000,
    );
    expect(tries).toBe(3);
  }, 20_000);

  it('is not tried again once it was thawed', async () => {
    startWith(9);
    const freeze = await place('freeze');
    hear(freeze);
    await eventually(async () => (await outcomeOf(freeze)) === 'failed', 'the failure');
    const thaw = await place('thaw');
    hear(thaw);
    await eventually(async () => (await outcomeOf(thaw)) === 'thawed', 'the thaw');
    const since = performance.now();
    // The first pause is a second.
    await eventually(async () => {
      await beat();
      return performance.now() - since > 1_500;
    }, 'the time of the next try');
    expect(tries).toBe(1);
  }, 20_000);
});
