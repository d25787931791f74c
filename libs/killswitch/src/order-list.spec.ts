import type { Order, Scope } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext } from '../../../test/support/life';
import { AuditStore } from './audit-store';
import type { ControlSettings } from './control-settings';
import type { KillswitchService } from './killswitch.service';
import type { OrderStore } from './order-store';

let valkey: Valkey;
let life: LifecycleService;
let orders: OrderStore;
let killswitch: KillswitchService;
let settings: ControlSettings;
// Before the rig's own hook, which closes the connections.
afterAll(() => killswitch.stopListening());
useKillswitch((rig) => ({ valkey, life, orders, killswitch, settings } = rig));
beforeAll(() => killswitch.start());
beforeEach(async () => valkey.redis.flushall());

const killOfNothing = async (): Promise<Order> =>
  killswitch.placeOrder({ scope: { type: 'pool', pool: 'empty' }, by: 'me' });

async function inOrder<T>(times: number, act: () => Promise<T>): Promise<T[]> {
  const done: T[] = [];
  for (let i = 0; i < times; i++) done.push(await act());
  return done;
}

const idsOf = (page: { items: readonly { orderId?: string; id?: string }[] }): (string | undefined)[] =>
  page.items.map((item) => item.orderId ?? item.id);

describe('R51 the list of orders', () => {
  it('names an order without proof behind any number of newer ones that have theirs', async () => {
    await startNext(life, await createExecution(life, spec([node('a')])));
    const unproved = await killswitch.placeOrder({ scope: { type: 'all' }, by: 'me' });
    await inOrder(51, killOfNothing);
    expect(idsOf(await orders.list())).not.toContain(unproved.id);
    expect(idsOf(await orders.list({ unproved: true }))).toEqual([unproved.id]);
    await killswitch.close(unproved.id, 'me', 'the host is scrapped');
    expect(await orders.list({ unproved: true })).toEqual({ items: [] });
  });

  it.each([true, false])(
    'has pages that neither repeat nor leave out an order (unproved: %s)',
    async (unproved) => {
      const { id, agentId, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
      const scopes: Scope[] = [
        { type: 'all' },
        { type: 'pool', pool: 'default' },
        { type: 'worker', workerId: fence.owner },
        { type: 'execution', executionId: id },
        { type: 'agent', agentId },
      ];
      await life.workers.register(fence.owner, { pools: 'default' }, 60_000);
      const given: Order[] = [];
      for (const scope of scopes)
        given.push(unproved ? await killswitch.placeOrder({ scope, by: 'me' }) : await killOfNothing());
      const newestFirst = given.map(({ id }) => id).toReversed();
      const first = await orders.list({ unproved, limit: 2 });
      await killOfNothing();
      const second = await orders.list({ unproved, limit: 2, cursor: first.nextCursor ?? '' });
      const third = await orders.list({ unproved, limit: 2, cursor: second.nextCursor ?? '' });
      expect([first, second, third].flatMap(idsOf)).toEqual(newestFirst);
      expect(third).not.toHaveProperty('nextCursor');
    },
  );

  it('refuses a cursor that no page has answered', async () => {
    const asked = { cursor: 'yesterday' };
    await expect(orders.list(asked)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    await expect(orders.list({ ...asked, unproved: true })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
    });
  });

  it('fails where an order cannot be looked up: it does not leave it out', async () => {
    await killOfNothing();
    const lookUp = jest.spyOn(orders, 'receipt').mockRejectedValueOnce(new Error('the connection is lost'));
    await expect(orders.list()).rejects.toThrow('the connection is lost');
    lookUp.mockRestore();
  });
});

describe('R55 the list of the audit log', () => {
  it('has pages, and says that there are older entries', async () => {
    const audit = new AuditStore(valkey, settings);
    await inOrder(3, killOfNothing);
    const whole = await audit.list();
    expect(whole.items.length).toBeGreaterThanOrEqual(6);
    expect(whole).not.toHaveProperty('nextCursor');
    const first = await audit.list({ limit: 4 });
    const rest = await audit.list({ cursor: first.nextCursor ?? '' });
    expect([...first.items, ...rest.items]).toEqual(whole.items);
    await expect(audit.list({ cursor: '+' })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });
});
