import type { Order } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { killOf, useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext } from '../../../test/support/life';
import { KillswitchService } from './killswitch.service';
import { newLatch, type LatchStore } from './latch-store';
import { targetOf } from './order-receipt';
import type { OrderStore } from './order-store';

let rig: KillswitchRig;
let valkey: Valkey;
let life: LifecycleService;
let orders: OrderStore;
let latches: LatchStore;
let killswitch: KillswitchService;
useKillswitch((made) => ({ valkey, life, orders, latches, killswitch } = rig = made));
beforeEach(async () => valkey.redis.flushall());

const runningAgent = async (): Promise<string> =>
  (await startNext(life, await createExecution(life, spec([node('a')])), 'wrk_1')).agentId;

/** A kill of a pool that is stored and not carried out, by a clock that was set back since the agents began. */
async function place(withLatch: boolean): Promise<Order> {
  const asked = killOf({ type: 'pool', pool: 'default' });
  const latch = withLatch ? newLatch('latch', asked.scope, { by: 'me', orderId: asked.id }) : undefined;
  const { order } = await orders.place(
    { ...asked, ...(latch === undefined ? {} : { latchId: latch.id }) },
    latch,
  );
  return { ...order, placedAt: order.placedAt - 3_600_000 };
}

describe('R51 R52 a wide kill by a server whose clock was stepped back', () => {
  it('names running agents while its latch is engaged, and uses no clock', async () => {
    const agentId = await runningAgent();
    const order = await place(true);
    await killswitch.carryOut(order);
    expect(await orders.receipt(order.id)).toMatchObject({
      complete: false,
      targets: [{ agentId, outcome: 'pending' }],
    });
  });

  it('without a latch names running agents too, and uses no clock', async () => {
    const agentId = await runningAgent();
    const order = await place(false);
    await killswitch.carryOut(order);
    expect(await orders.receipt(order.id)).toMatchObject({
      complete: false,
      targets: [{ agentId, outcome: 'pending' }],
    });
  });
});

describe('R50 R53 attempts that a worker claims after a kill', () => {
  it.each([
    ['while its latch holds is named', async () => undefined, true],
    [
      'after its latch was released is not',
      async ({ latchId = '' }: Order) => latches.release(latchId, 'me', 'over'),
      false,
    ],
    ['after its limit is not', async ({ id }: Order) => orders.expire(id), false],
    ['after it was closed is not', async ({ id }: Order) => orders.close(id, 'me', 'gone'), false],
  ])('%s', async (_what, then, taken) => {
    const first = await life.agents.get(await runningAgent());
    const order = await place(true);
    await orders.addTargets(order.id, [targetOf(first, 'pending')], true);
    await then(order);
    const later = await life.agents.get(await runningAgent().catch(async () => first.id));
    expect(await orders.addTargets(order.id, [targetOf(later, 'pending')], false)).toBe(taken);
  });
});

describe('R19 R51 the limit of an order', () => {
  /** A service of another orchestrator, whose proof limit is `proofLimitMs`. */
  const orchestrator = (proofLimitMs: number): KillswitchService =>
    new KillswitchService(life, rig.dag, orders, latches, rig.feed, { proofLimitMs });
  const give = async (agentId: string, scope: Order['scope'], over: Partial<Order> = {}): Promise<string> => {
    const { order } = await orders.place({ ...killOf(scope), ...over });
    await killswitch.carryOut(order);
    expect((await orders.receipt(order.id)).missing).toMatchObject([{ agentId }]);
    return order.id;
  };
  const executionOf = async (agentId: string): Promise<string> =>
    (await life.agents.get(agentId)).executionId;
  afterEach(() => jest.restoreAllMocks());

  it('does not pass because the clock of an orchestrator, or of the server, is another’s', async () => {
    const agentId = await runningAgent();
    const executionId = await executionOf(agentId);
    const id = await give(agentId, { type: 'execution', executionId });
    const one = orchestrator(60_000);
    await one.sweep();
    const now = Date.now();
    jest.spyOn(Date, 'now').mockReturnValue(now + 3_600_000);
    jest.spyOn(valkey.clock, 'now').mockReturnValue(now + 3_600_000);
    await one.sweep();
    expect(await orders.state(id)).toBe('open');
    expect((await life.executions.get(executionId)).state).toBe('stopping');
  });

  it('leaves an agent its grace, the order’s or the node’s', async () => {
    const byOrder = await runningAgent();
    const first = await give(byOrder, { type: 'agent', agentId: byOrder }, { graceMs: 60_000 });
    const made = await createExecution(life, spec([node('a', { graceMs: 60_000 })]));
    const [job] = (await life.executions.advance(made)).entries;
    await life.agents.claim(job!, 'wrk_1', 'token');
    const second = await give(job!.agentId, { type: 'agent', agentId: job!.agentId });
    const other = await runningAgent();
    const third = await give(
      other,
      { type: 'agent', agentId: other },
      { mode: 'immediate', graceMs: 60_000 },
    );
    const one = orchestrator(0);
    await one.sweep();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await one.sweep();
    expect(await Promise.all([first, second, third].map(async (id) => orders.state(id)))).toEqual([
      'open',
      'open',
      'incomplete',
    ]);
  });

  it('ends an execution with agents that nobody could prove dead, whatever the scope of the kill', async () => {
    const agentId = await runningAgent();
    const executionId = await executionOf(agentId);
    await give(agentId, { type: 'all' });
    expect((await life.executions.get(executionId)).state).toBe('stopping');
    const one = orchestrator(0);
    await one.sweep();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await one.sweep();
    expect(await life.executions.get(executionId)).toMatchObject({
      state: 'failed',
      error: { code: 'UNCONFIRMED' },
    });
  });
});
