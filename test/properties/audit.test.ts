import type { TargetReceipt } from '#libs/contracts';
import { AuditStore, type OrderStore } from '#libs/killswitch';
import type { Valkey } from '#libs/valkey';
import fc from 'fast-check';
import { ulid } from 'ulid';
import { orderStores } from '../support/killswitch';
import { useLife } from '../support/life';
import { expectProperty } from './runs';

let valkey: Valkey;
let audit: AuditStore;
let orders: OrderStore;

useLife((rig) => ({ valkey } = rig));
beforeAll(() => {
  const stores = orderStores(valkey, 600_000);
  orders = stores.orders;
  audit = new AuditStore(valkey, stores.settings);
});

interface Told {
  readonly mode: 'graceful' | 'immediate';
  readonly graceMs?: number | undefined;
  readonly by: string;
  readonly note?: string | undefined;
  readonly outcomes: readonly ('killed' | 'already-ended')[];
  /** The last target is never seen dead, and a person closes the receipt. */
  readonly givenUp: boolean;
}

const told: fc.Arbitrary<Told> = fc.record(
  {
    mode: fc.constantFrom('graceful', 'immediate'),
    graceMs: fc.integer({ min: 0, max: 600_000 }),
    by: fc.stringMatching(/^[a-z "\\é]{1,12}$/),
    note: fc.stringMatching(/^[a-z "\\é]{1,12}$/),
    outcomes: fc.array(fc.constantFrom('killed', 'already-ended'), { maxLength: 4 }),
    givenUp: fc.boolean(),
  },
  { requiredKeys: ['mode', 'by', 'outcomes', 'givenUp'], noNullPrototype: true },
);

const target = (name: string, outcome: TargetReceipt['outcome']): TargetReceipt =>
  ({
    agentId: `agt_${name}`,
    nodeId: name,
    outcome,
    at: 1,
    detail: 'é "quoted"',
  }) as unknown as TargetReceipt;

async function place({ mode, graceMs, by, note, outcomes, givenUp }: Told): Promise<string> {
  const id = `ord_${ulid()}`;
  await orders.place({
    id,
    kind: 'kill',
    scope: { type: 'selector', selector: 'team=data' },
    mode,
    reason: 'killswitch',
    by,
    ...(graceMs === undefined ? {} : { graceMs }),
    ...(note === undefined ? {} : { note }),
  } as never);
  const names = outcomes.map((_, i) => `t${i}`);
  if (givenUp) names.push('lost');
  await orders.addTargets(
    id,
    names.map((name) => target(name, 'pending')),
    true,
  );
  for (const [i, outcome] of outcomes.entries()) await orders.report(id, target(`t${i}`, outcome));
  if (givenUp) {
    await orders.expire(id);
    await orders.close(id, by, note ?? 'gone');
  }
  return id;
}

/** Changes, removes or adds one byte of a text. */
function changed(text: string, at: number, how: number): string {
  const i = at % (text.length + (how % 3 === 2 ? 1 : 0));
  const other = text[i] === '7' ? '8' : '7';
  if (how % 3 === 0) return text.slice(0, i) + other + text.slice(i + 1);
  if (how % 3 === 1) return text.slice(0, i) + text.slice(i + 1);
  return text.slice(0, i) + other + text.slice(i);
}

/** Every stored text of the log, the orders and their settled receipts, by its place. */
async function places(
  ids: readonly string[],
): Promise<[name: string, text: string, put: (text: string) => Promise<unknown>][]> {
  const { redis, keys } = valkey;
  const found: [string, string, (text: string) => Promise<unknown>][] = [];
  const log = keys.shard(keys.control, 'audit');
  const rows = await redis.xrange(log, '-', '+');
  for (const [row, [id, values]] of rows.entries())
    for (const part of [1, 3])
      found.push([
        `${id} ${values[part - 1]}`,
        values[part]!,
        async (text) => {
          await redis.del(log);
          for (const [n, [rowId, kept]] of rows.entries())
            await redis.xadd(
              log,
              rowId,
              ...(n === row ? kept.map((value, i) => (i === part ? text : value)) : kept),
            );
        },
      ]);
  const head = keys.shard(keys.control, 'audit:head');
  for (const name of ['n', 'hash'])
    found.push([
      `head ${name}`,
      (await redis.hget(head, name))!,
      async (text) => redis.hset(head, name, text),
    ]);
  for (const id of ids) {
    const record = await redis.hgetall(keys.order(id));
    for (const name of ['order', 'state', 'completedAt', 'closedBy', 'closeNote'])
      if (record[name] !== undefined)
        found.push([`${id} ${name}`, record[name], async (text) => redis.hset(keys.order(id), name, text)]);
    const sealed = `${keys.order(id)}:sealed`;
    for (const [i, name] of (await redis.lrange(sealed, 0, -1)).entries()) {
      found.push([`${id} sealed ${i}`, name, async (text) => redis.lset(sealed, i, text)]);
      const targets = keys.orderTargets(id);
      found.push([
        `${id} ${name}`,
        (await redis.hget(targets, name))!,
        async (text) => redis.hset(targets, name, text),
      ]);
    }
  }
  return found;
}

it('R55 any one byte of the log, of an order, of its state or of a settled receipt that is changed, lost or added is found', async () => {
  await expectProperty(
    fc.asyncProperty(
      fc.array(told, { minLength: 1, maxLength: 3 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(2)), { minLength: 12, maxLength: 12 }),
      async (all, changes) => {
        await valkey.redis.flushall();
        const ids: string[] = [];
        for (const one of all) ids.push(await place(one));
        expect(await audit.verify()).toMatchObject({ intact: true, faults: [] });
        const found = await places(ids);
        for (const [where, at, how] of changes) {
          const [name, text, put] = found[where % found.length]!;
          const other = changed(text, at, how);
          await put(other);
          const { intact, faults } = await audit.verify();
          expect({ name, text, other, intact }).toEqual({ name, text, other, intact: false });
          expect(faults.length).toBeGreaterThan(0);
          await put(text);
        }
        expect(await audit.verify()).toMatchObject({ intact: true, faults: [] });
      },
    ),
    40,
  );
}, 120_000);

it('R55 an entry taken out of the log, or moved, is found', async () => {
  await expectProperty(
    fc.asyncProperty(
      fc.array(told, { minLength: 1, maxLength: 3 }),
      fc.nat(),
      fc.nat(),
      async (all, from, to) => {
        await valkey.redis.flushall();
        for (const one of all) await place(one);
        const { redis, keys } = valkey;
        const log = keys.shard(keys.control, 'audit');
        const rows = await redis.xrange(log, '-', '+');
        const values = rows.map(([, kept]) => kept);
        const [taken] = values.splice(from % values.length, 1);
        // From the middle, or at another place. A log without its oldest entries is one that retention cut.
        if (to % 2 === 0)
          values.splice((from + 1 + (to % Math.max(1, values.length))) % (values.length + 1), 0, taken!);
        else fc.pre(from % rows.length > 0);
        const same = values.length === rows.length && values.every((kept, i) => kept === rows[i]![1]);
        fc.pre(!same);
        await redis.del(log);
        for (const [i, kept] of values.entries()) await redis.xadd(log, rows[i]![0], ...kept);
        expect((await audit.verify()).intact).toBe(false);
      },
    ),
    60,
  );
}, 120_000);
