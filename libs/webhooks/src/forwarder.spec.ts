import type { Delivery } from '#libs/dispatch';
import type { Valkey } from '#libs/valkey';
import { useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { Forwarder, type Target } from './forwarder';

let valkey: Valkey;
useLife((rig) => ({ valkey } = rig));
beforeEach(async () => valkey.redis.flushall());
afterEach(() => jest.restoreAllMocks());

const stream = (): string => valkey.keys.shard(valkey.keys.control, 'events');
const cursors = async (): Promise<Record<string, string>> =>
  valkey.redis.hgetall(valkey.keys.shard(valkey.keys.control, 'webhooks:cursors'));

/** Stores events with the next numbers, as emit_control does. */
async function emit(from: number, to: number, data: object = {}): Promise<void> {
  for (let seq = from; seq <= to; seq++) {
    const event = {
      type: seq % 2 === 1 ? 'order.open' : 'latch.engaged',
      entity: 'order',
      at: seq,
      seq,
      data,
    };
    await valkey.redis.xadd(stream(), '*', 'e', JSON.stringify(event));
  }
}

interface Kept extends Target {
  readonly stored: Delivery[];
  isFull: boolean;
}

function target(name: string, type?: string): Kept {
  const stored: Delivery[] = [];
  return {
    name,
    stored,
    isFull: false,
    wants: (one) => type === undefined || one === type,
    async hasRoom() {
      return !this.isFull;
    },
    store: async (deliveries) => void stored.push(...deliveries),
  };
}

const seqs = ({ stored }: Kept): unknown[] =>
  stored.map(({ body, type }) => {
    const { data } = JSON.parse(body) as { data: { seq?: number; missing?: number; reason?: string } };
    return data.seq ?? `${type} ${data.reason} ${data.missing}`;
  });

async function all(forwarder: Forwarder): Promise<void> {
  while (await forwarder.pass());
}

describe('forwarding of control events', () => {
  it('gives each endpoint the events that it wants, in order, from its first sight on', async () => {
    await emit(1, 3);
    const [every, latches] = [target('every'), target('latches', 'latch.engaged')];
    const forwarder = new Forwarder(valkey, [every, latches]);
    await all(forwarder);
    expect(seqs(every)).toEqual([]);
    await emit(4, 150);
    await all(forwarder);
    expect(seqs(every)).toEqual(Array.from({ length: 147 }, (_, at) => at + 4));
    expect(seqs(latches)).toEqual(Array.from({ length: 74 }, (_, at) => 2 * at + 4));
    const { id, type, body } = every.stored[0]!;
    const eventId = (await valkey.redis.xrange(stream(), '-', '+', 'COUNT', 4)).at(-1)?.[0];
    expect([id, type]).toEqual([`evt_${eventId}`, 'latch.engaged']);
    expect(JSON.parse(body)).toEqual({
      type: 'latch.engaged',
      timestamp: '1970-01-01T00:00:00.004Z',
      data: { id: eventId, type: 'latch.engaged', entity: 'order', at: 4, seq: 4, data: {} },
    });
  });

  it('repeats what was stored when the process dies before the cursor moves, with the same ids', async () => {
    const one = target('one');
    const first = new Forwarder(valkey, [one]);
    await all(first);
    await emit(1, 2);
    const json = valkey.scripts.json.bind(valkey.scripts);
    jest.spyOn(valkey.scripts, 'json').mockImplementation(async (...args) => {
      if (args[0] === 'moveWebhookCursors') throw new Error('killed');
      return json(...args);
    });
    await expect(first.pass()).rejects.toThrow('killed');
    jest.restoreAllMocks();
    await first.giveBack();
    await all(new Forwarder(valkey, [one]));
    expect(seqs(one)).toEqual([1, 2, 1, 2]);
    expect(one.stored[0]).toEqual(one.stored[2]);
  });

  it('is done by one process at a time, and one that was suspended moves no cursor back', async () => {
    const [a, b] = [target('hook'), target('hook')];
    const [first, second] = [new Forwarder(valkey, [a]), new Forwarder(valkey, [b])];
    await all(first);
    await emit(1, 1);
    expect(await second.pass()).toBe(false);
    const gate: { open?: () => void } = {};
    a.store = async (deliveries) => {
      a.stored.push(...deliveries);
      await new Promise<void>((go) => (gate.open = go));
    };
    const suspended = first.pass();
    await eventually(() => gate.open !== undefined, 'the storing');
    await first.giveBack();
    await all(second);
    await emit(2, 2);
    await all(second);
    const moved = await cursors();
    gate.open?.();
    await suspended;
    expect(await cursors()).toEqual(moved);
    expect(seqs(b)).toEqual([1, 2]);
  });

  it('leaves a full endpoint behind, and tells it what the stream has lost since', async () => {
    const [full, free] = [target('full', 'latch.engaged'), target('free', 'latch.engaged')];
    const forwarder = new Forwarder(valkey, [full, free]);
    await all(forwarder);
    await emit(1, 2);
    await all(forwarder);
    full.isFull = true;
    await emit(3, 9);
    await all(forwarder);
    expect([seqs(full), seqs(free)]).toEqual([[2], [2, 4, 6, 8]]);
    await valkey.redis.xtrim(stream(), 'MAXLEN', '2');
    full.isFull = false;
    await all(forwarder);
    expect(seqs(full)).toEqual([2, 'webhooks.gap retention 5', 8]);
    expect(seqs(free)).toEqual([2, 4, 6, 8]);
  });

  it('tells of a failover after which the stream ends before the cursor', async () => {
    const one = target('one');
    const forwarder = new Forwarder(valkey, [one]);
    await all(forwarder);
    await emit(1, 3);
    await all(forwarder);
    const rows = await valkey.redis.xrange(stream(), '-', '+');
    await valkey.redis.xdel(stream(), rows[2]![0], rows[1]![0]);
    forwarder.doubt();
    await all(forwarder);
    expect(seqs(one)).toEqual([1, 2, 3, 'webhooks.gap failover undefined']);
    await emit(2, 2);
    await all(forwarder);
    expect(seqs(one).slice(4)).toEqual([2]);
  });

  it('passes over an entry that cannot be read, cuts a large one, and starts again from a corrupt cursor', async () => {
    const one = target('one');
    const forwarder = new Forwarder(valkey, [one]);
    await all(forwarder);
    for (const text of ['{"x', '7', 'null', '{"type":"order.open","seq":1,"at":1e300}'])
      await valkey.redis.xadd(stream(), '*', 'e', text);
    await all(forwarder);
    await emit(1, 1, { note: 'x'.repeat(20_000) });
    await all(forwarder);
    expect(seqs(one)).toEqual([1]);
    expect(JSON.parse(one.stored[0]!.body)).toMatchObject({ data: { type: 'order.open', truncated: true } });
    const key = valkey.keys.shard(valkey.keys.control, 'webhooks:cursors');
    await valkey.redis.hset(key, 'one', 'nonsense');
    await all(forwarder);
    expect(seqs(one)).toEqual([1, 1]);
  });
});
