import type { AuditVerdict, TargetReceipt } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import { orderStores } from '../../../test/support/killswitch';
import { useLife } from '../../../test/support/life';
import { AuditStore } from './audit-store';
import type { OrderStore } from './order-store';

let valkey: Valkey;
let audit: AuditStore;
let orders: OrderStore;

useLife((rig) => ({ valkey } = rig));
beforeAll(() => {
  const stores = orderStores(valkey);
  orders = stores.orders;
  audit = new AuditStore(valkey, stores.settings);
});
afterEach(async () => valkey.redis.flushall());

const target = (name: string, outcome: TargetReceipt['outcome']): TargetReceipt =>
  ({ agentId: `agt_${name}`, nodeId: name, outcome, at: 1 }) as unknown as TargetReceipt;

async function place(): Promise<string> {
  const id = `ord_${ulid()}`;
  await orders.place({
    id,
    kind: 'kill',
    scope: { type: 'selector', selector: 'team=data' },
    mode: 'graceful',
    reason: 'killed',
    by: 'ann',
    note: 'why',
  } as never);
  return id;
}

async function complete(...names: string[]): Promise<string> {
  const id = await place();
  await orders.addTargets(
    id,
    names.map((name) => target(name, 'pending')),
    true,
  );
  for (const name of names) await orders.report(id, target(name, 'killed'));
  expect(await orders.state(id)).toBe('complete');
  return id;
}

async function faults(): Promise<string[]> {
  const verdict: AuditVerdict = await audit.verify();
  expect(verdict.intact).toBe(verdict.faults.length === 0);
  return verdict.faults.map(({ fault }) => fault);
}

const record = (id: string): string => valkey.keys.order(id);
const sealed = (id: string): string => `${valkey.keys.order(id)}:sealed`;

async function changeOrder(id: string, change: Record<string, unknown>): Promise<void> {
  const order = JSON.parse((await valkey.redis.hget(record(id), 'order')) ?? '') as object;
  await valkey.redis.hset(record(id), 'order', JSON.stringify({ ...order, ...change }));
}

it('calls intact orders that are open, complete, given up or closed, and those that retention has removed', async () => {
  expect(await audit.verify()).toEqual({ entries: 0, receipts: 0, intact: true, faults: [] });
  await place();
  await complete('a', 'b');
  await complete();
  const left = await complete('c');
  await valkey.redis.del(record(left), sealed(left), valkey.keys.orderTargets(left));
  const given = await place();
  await orders.addTargets(given, [target('d', 'pending'), target('e', 'pending')], true);
  await orders.report(given, target('d', 'killed'));
  await orders.expire(given);
  await orders.report(given, target('e', 'unconfirmed'));
  expect(await audit.verify()).toMatchObject({ receipts: 2, intact: true });
  await orders.close(given, 'bob', 'its machine is gone');
  expect(await faults()).toEqual([]);
  await orders.report(given, target('e', 'killed'));
  expect(await orders.state(given)).toBe('complete');
  expect(await audit.verify()).toMatchObject({ receipts: 3, intact: true });
});

describe('a complete receipt', () => {
  it.each<[string, (id: string, targets: string) => Promise<unknown>]>([
    [
      'a target changed, the list deleted',
      async (id, targets) => {
        await valkey.redis.hset(targets, 'agt_a', JSON.stringify(target('a', 'already-ended')));
        await valkey.redis.del(sealed(id));
      },
    ],
    ['the list deleted', async (id) => valkey.redis.del(sealed(id))],
    ['targets and list deleted', async (id, targets) => valkey.redis.del(targets, sealed(id))],
    ['the list cut', async (id) => valkey.redis.ltrim(sealed(id), 0, 0)],
    ['the list in another order', async (id) => valkey.redis.lmove(sealed(id), sealed(id), 'LEFT', 'RIGHT')],
    ['a name twice in the list', async (id) => valkey.redis.rpush(sealed(id), 'agt_a')],
    [
      'a target added that is not confirmed',
      async (_id, targets) => valkey.redis.hset(targets, 'agt_x', JSON.stringify(target('x', 'unconfirmed'))),
    ],
    [
      'a confirmed target added',
      async (_id, targets) => valkey.redis.hset(targets, 'agt_x', JSON.stringify(target('x', 'killed'))),
    ],
    ['a target that is no JSON', async (_id, targets) => valkey.redis.hset(targets, 'agt_a', '{')],
    ['a target removed', async (_id, targets) => valkey.redis.hdel(targets, 'agt_b')],
  ])('%s', async (_what, change) => {
    const other = await complete('o');
    const id = await complete('a', 'b');
    await change(id, valkey.keys.orderTargets(id));
    expect(await faults()).toEqual([`the receipt of ${id} was changed`]);
    expect(await orders.state(other)).toBe('complete');
  });

  it('without its record', async () => {
    const id = await complete('a');
    await valkey.redis.del(record(id));
    expect(await faults()).toEqual([`the record of ${id} was removed while its receipt is kept`]);
  });

  it('without targets, to which one is added', async () => {
    const id = await complete();
    await valkey.redis.hset(valkey.keys.orderTargets(id), 'agt_x', JSON.stringify(target('x', 'pending')));
    expect(await faults()).toEqual([`the receipt of ${id} was changed`]);
  });
});

it.each<[string, Record<string, unknown>]>([
  ['kind', { kind: 'freeze' }],
  ['scope', { scope: { type: 'all' } }],
  ['mode', { mode: 'immediate' }],
  ['reason', { reason: 'user_abort' }],
  ['by', { by: 'eve' }],
  ['note', { note: undefined }],
  ['latchId', { latchId: 'lat_x' }],
  ['placedAt', { placedAt: 1 }],
  ['id', { id: 'ord_x' }],
  ['mode, by', { by: 'eve', mode: 'immediate' }],
])('an order’s %s changed in its record', async (names, change) => {
  const id = await complete('a');
  await changeOrder(id, change);
  expect(await faults()).toEqual([`the order ${id} was changed: ${names}`]);
});

it('an order that cannot be read', async () => {
  const id = await complete('a');
  await valkey.redis.hset(record(id), 'order', '{');
  expect(await faults()).toEqual([`the order ${id} was changed: it cannot be read`]);
});

it.each<[string, Record<string, string>, string]>([
  ['state', { state: 'open' }, 'it is open, the log says complete'],
  ['time', { completedAt: '5' }, 'another time of its completion'],
  ['closing', { closedBy: 'eve', closedAt: '5' }, 'another closing'],
])('an order’s %s changed', async (_what, fields, why) => {
  const id = await complete('a');
  await valkey.redis.hset(record(id), fields);
  expect(await faults()).toEqual([`the state of ${id} was changed: ${why}`]);
});

it('a receipt given up, whose target is changed or whose state is', async () => {
  const id = await place();
  await orders.addTargets(id, [target('a', 'pending'), target('b', 'pending')], true);
  await orders.report(id, target('a', 'killed'));
  await orders.expire(id);
  await orders.close(id, 'bob', 'gone');
  const targets = valkey.keys.orderTargets(id);
  await valkey.redis.hset(targets, 'agt_a', JSON.stringify(target('a', 'already-ended')));
  expect(await faults()).toEqual([`the receipt of ${id} was changed`]);
  await valkey.redis.hset(targets, 'agt_a', JSON.stringify(target('a', 'killed')));
  await valkey.redis.hset(record(id), { closedBy: 'eve' });
  expect(await faults()).toEqual([`the state of ${id} was changed: another closing`]);
});

it('is not misled by acts during its look', async () => {
  const over = new AbortController();
  const busy = (async () => {
    for (let i = 0; !over.signal.aborted; i++) await complete(`a${i}`, `b${i}`);
  })();
  for (let i = 0; i < 30; i++) expect(await faults()).toEqual([]);
  over.abort();
  await busy;
});

it('an entry appended, one removed at the end, one whose text is changed', async () => {
  await complete('a');
  const { redis, keys } = valkey;
  const log = keys.shard(keys.control, 'audit');
  const added = await redis.xadd(log, '*', 'e', '{', 'h', 'x');
  expect(await faults()).toEqual([
    'entry ? does not follow from the one before it',
    'the last entry is not the one that was written last',
  ]);
  const rows = await redis.xrange(log, '-', '+');
  await redis.xdel(log, added ?? '', rows[1]?.[0] ?? '');
  expect(await faults()).toContain('the last entry is not the one that was written last');
});
