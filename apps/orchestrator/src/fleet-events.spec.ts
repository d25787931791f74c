import { EventEmitter } from 'node:events';
import type { BelayEvent } from '#libs/contracts';
import { LifecycleService, type Fence } from '#libs/lifecycle';
import { ChangeFeed, type Valkey } from '#libs/valkey';
import { createExecution, node, spec, startNext, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { encodeCursor, decodeCursor } from './fleet-cursor';
import { FleetEvents } from './fleet-events';
import { streamFleet, type FleetFilter } from './fleet-stream';
import type { SseStream } from './sse';

const SHARDS = 2;
let valkey: Valkey;
let life: LifecycleService;
let feed: ChangeFeed;
let fleet: FleetEvents;
let closing: AbortController;
const readers: Reading[] = [];

useLife((rig) => ({ valkey } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  life = new LifecycleService(valkey, { retentionMs: 60_000 });
  feed = new ChangeFeed(valkey);
  await feed.start();
  closing = new AbortController();
  fleet = new FleetEvents(life, feed, (error) => {
    throw error;
  });
});
afterEach(async () => {
  for (const reader of readers.splice(0)) reader.leave();
  await eventually(async () => !fleet.isReading, 'the end of the reader');
  feed.stop();
});

interface Frame {
  readonly event: string;
  readonly data: unknown;
  readonly id?: string;
}

/** A client of the stream, without HTTP. */
interface Reading {
  readonly frames: Frame[];
  readonly events: () => BelayEvent[];
  readonly lastId: () => string;
  leave(): void;
  /** While paused it has read nothing of the last frame. */
  pause(): void;
  resume(): void;
  readonly over: Promise<void>;
}

async function read(
  filter: Partial<FleetFilter> = {},
  { after, of = fleet }: { after?: string; of?: FleetEvents } = {},
): Promise<Reading> {
  const frames: Frame[] = [];
  const gone = new AbortController();
  const wake = new EventEmitter();
  let isPaused = false;
  const stream = {
    gone,
    send: (event: string, data: unknown, id?: string) => {
      if (gone.signal.aborted) return false;
      frames.push({ event, data, ...(id === undefined ? {} : { id }) });
      return true;
    },
    drained: async () => {
      if (isPaused) await new Promise((resolve) => wake.once('go', resolve));
      return !gone.signal.aborted;
    },
    end: () => gone.abort(),
  };
  const view = await of.join();
  const over = streamFleet(view, stream as unknown as SseStream, {
    filter: { selector: [], ...filter },
    closing: closing.signal,
    ...(after === undefined ? {} : { after: decodeCursor(after, SHARDS) ?? [] }),
  });
  const reading: Reading = {
    frames,
    events: () => frames.filter(({ event }) => event === 'event').map(({ data }) => data as BelayEvent),
    lastId: () => frames.findLast(({ id }) => id !== undefined)?.id ?? '',
    leave: () => {
      gone.abort();
      wake.emit('go');
    },
    pause: () => (isPaused = true),
    resume: () => {
      isPaused = false;
      wake.emit('go');
    },
    over,
  };
  readers.push(reading);
  await eventually(async () => frames.length > 0, 'the first frame');
  return reading;
}

async function ended(labels = {}): Promise<string> {
  const id = await createExecution(life, spec([node('a')], { labels }));
  const { fence } = await startNext(life, id);
  await life.agents.finish(fence, { state: 'completed', result: 1 });
  return id;
}

/** Events of an agent, one message each. */
async function talk(fence: Fence, count: number): Promise<void> {
  for (let n = 1; n <= count; n++) await life.agents.report(fence, { events: [{ n, name: 'x', data: n }] });
}

const stored = async (id: string): Promise<BelayEvent[]> => life.executions.events(id, '0-0');
const ofOne = (events: readonly BelayEvent[], id: string): BelayEvent[] =>
  events.filter(({ executionId }) => executionId === id);
/** Waits until the reader has that many events. */
const has = async (reading: Reading, count: number): Promise<void> =>
  void (await eventually(async () => reading.events().length >= count, `${count} events`));

describe('R56 R57 the events of all executions', () => {
  it('come from the opening on, of each execution all and in order, with the same content', async () => {
    await ended();
    const reading = await read();
    expect(reading.frames).toEqual([{ event: 'ready', data: {}, id: expect.stringMatching(/^all\./) }]);
    const ids = [await ended(), await ended(), await ended(), await ended()];
    const expected = await Promise.all(ids.map(stored));
    await has(reading, expected.flat().length);
    for (const [i, id] of ids.entries()) expect(ofOne(reading.events(), id)).toEqual(expected[i]);
    expect(reading.events()).toHaveLength(expected.flat().length);
  });

  it('a client that was away goes on where it was, with every other event once, across shards', async () => {
    const first = await read();
    const ids = [await ended(), await ended(), await ended()];
    const all = (await Promise.all(ids.map(stored))).flat().length;
    await has(first, all);
    // From the position of every single event: the others follow, each once.
    const seen = first.frames.filter(({ event }) => event === 'event');
    for (const at of [0, 3, Math.floor(all / 2), all - 2]) {
      const second = await read({}, { after: seen[at]?.id ?? '' });
      await has(second, all - at - 1);
      const both = [...seen.slice(0, at + 1).map(({ data }) => data as BelayEvent), ...second.events()];
      for (const id of ids) expect(ofOne(both, id)).toEqual(await stored(id));
      second.leave();
    }
  });

  it('a position is as good at another orchestrator, also one that has not read so far itself', async () => {
    const first = await read();
    const ids = [await ended(), await ended()];
    const all = (await Promise.all(ids.map(stored))).flat().length;
    await has(first, all);
    const other = new FleetEvents(life, feed, () => undefined);
    const second = await read({}, { after: first.frames[0]?.id ?? '', of: other });
    await has(second, all);
    for (const id of ids) expect(ofOne(second.events(), id)).toEqual(await stored(id));
    const third = await read({}, { after: first.lastId(), of: other });
    const id = await ended();
    await has(third, (await stored(id)).length);
    expect(third.events()).toEqual(await stored(id));
    second.leave();
    third.leave();
    await eventually(async () => !other.isReading, 'the end of the other reader');
  });

  it('a slow client costs no memory here, and misses nothing', async () => {
    const reading = await read();
    reading.pause();
    const ids = [];
    for (let i = 0; i < 20; i++) ids.push(await ended());
    // One frame is on its way; no more are read for it.
    await eventually(async () => reading.events().length === 1, 'one event');
    const quick = await read({}, { after: reading.frames[0]?.id ?? '' });
    const all = (await Promise.all(ids.map(stored))).flat().length;
    await has(quick, all);
    expect(reading.events()).toHaveLength(1);
    reading.resume();
    await has(reading, all);
    for (const id of ids) expect(ofOne(reading.events(), id)).toEqual(await stored(id));
  });

  it('R57 are announced as missing where retention has removed them while a client was away', async () => {
    life = new LifecycleService(valkey, { retentionMs: 60_000, shardChanges: 1 });
    const { id, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    await talk(fence, 300);
    const positions = valkey.keys.tags().map((tag) => (tag === valkey.keys.tagOf(id) ? '1-1' : '0-0'));
    const late = await read({}, { after: encodeCursor(positions) });
    const last = (await stored(id)).at(-1);
    await eventually(async () => late.events().at(-1)?.id === last?.id, 'the last event');
    expect(late.frames[1]).toEqual({ event: 'reset', data: { reason: 'retention' }, id: expect.any(String) });
    const seqs = late.events().map(({ seq }) => seq);
    expect(seqs[0]).toBeGreaterThan(1);
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
  });

  it('R57 are announced as missing where retention has overtaken the reader', async () => {
    life = new LifecycleService(valkey, { retentionMs: 60_000, shardChanges: 300 });
    fleet = new FleetEvents(life, feed, () => undefined);
    const { id, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    const reading = await read();
    const after = jest.spyOn(life.changes, 'after').mockRejectedValue(new Error('Connection is closed.'));
    await talk(fence, 900);
    after.mockRestore();
    const last = (await stored(id)).at(-1);
    await eventually(async () => reading.events().at(-1)?.id === last?.id, 'the last event');
    expect(reading.frames[1]).toMatchObject({ event: 'reset', data: { reason: 'retention' } });
    const seqs = reading.events().map(({ seq }) => seq);
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
  });

  it('R57 are announced as missing where the server has lost them and comes back', async () => {
    const reading = await read();
    const before = await ended();
    await has(reading, (await stored(before)).length);
    const { redis, keys } = valkey;
    // A new primary without the last writes: its lists are shorter, and connections are made anew.
    await redis.del(keys.shard(keys.tagOf(before), 'changes'));
    await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await eventually(async () => reading.frames.some(({ event }) => event === 'reset'), 'a reset');
    expect(reading.frames.at(-1)).toMatchObject({ event: 'reset', data: { reason: 'failover' } });
    const id = await ended();
    await has(reading, (await stored(before)).length + (await stored(id)).length);
    expect(ofOne(reading.events(), id)).toEqual(await stored(id));
  });

  it('R57 are announced as missing where a failover has lost them', async () => {
    await ended();
    const ahead = encodeCursor([`${Date.now() + 3_600_000}-0`, `${Date.now() + 3_600_000}-0`]);
    const reading = await read({}, { after: ahead });
    await eventually(
      async () => reading.frames.filter(({ event }) => event === 'reset').length === SHARDS,
      'a reset of each shard',
    );
    expect(reading.frames[1]).toMatchObject({ event: 'reset', data: { reason: 'failover' } });
    const id = await ended();
    await has(reading, (await stored(id)).length);
    expect(reading.events()).toEqual(await stored(id));
  });

  it('R57 are announced as missing, once, where an execution keeps them no longer although its shard does', async () => {
    const { fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    const first = await read();
    await talk(fence, 3);
    await has(first, 3);
    const [at, seen] = [first.lastId(), first.events().at(-1)?.seq ?? 0];
    first.leave();
    await talk(fence, 1_400);
    const late = await read({}, { after: at });
    await life.agents.finish(fence, { state: 'completed', result: 1 });
    await eventually(async () => late.events().at(-1)?.type === 'execution.completed', 'the last event');
    expect(late.frames.slice(1, 3)).toMatchObject([
      { event: 'reset', data: { reason: 'retention' } },
      { event: 'event' },
    ]);
    expect(late.frames.filter(({ event }) => event === 'reset')).toHaveLength(1);
    const seqs = late.events().map(({ seq }) => seq);
    expect(seqs[0]).toBeGreaterThan(seen + 1);
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
  });

  it('R56 come once and in order where one shard cannot be read for a while', async () => {
    const reading = await read();
    const real = life.changes.after.bind(life.changes);
    const [broken] = valkey.keys.tags();
    let isBroken = true;
    const answers: (() => void)[] = [];
    let asked = 0;
    jest.spyOn(life.changes, 'after').mockImplementation(async (tag, after, limit) => {
      if (!isBroken) return real(tag, after, limit);
      if (tag === broken) throw new Error('Connection is closed.');
      asked++;
      const found = await real(tag, after, limit);
      await new Promise<void>((answer) => answers.push(answer));
      return found;
    });
    const ids: string[] = [];
    while (new Set(ids.map((id) => valkey.keys.tagOf(id))).size < 2) ids.push(await ended());
    await eventually(async () => asked > 0, 'a read that is not answered');
    // Two looks of the timer: each would read again what is under way.
    const since = performance.now();
    await eventually(async () => performance.now() - since > 2_200, 'two more looks');
    expect(asked).toBe(1);
    isBroken = false;
    for (const answer of answers) answer();
    const all = (await Promise.all(ids.map(stored))).flat().length;
    await has(reading, all);
    expect(reading.events()).toHaveLength(all);
    for (const id of ids) expect(ofOne(reading.events(), id)).toEqual(await stored(id));
  });

  it('the filter takes types, entities, states and labels, and the position goes on without events', async () => {
    const failures = await read({ states: ['killed', 'failed'] });
    const mine = await read({ selector: [{ key: 'team', op: 'in', values: ['a'] }], types: ['execution'] });
    const exact = await read({ types: ['node.completed'] });
    const id = await ended({ team: 'a' });
    const other = await ended({ team: 'b' });
    await has(mine, 3);
    await has(exact, 2);
    expect(mine.events().map(({ type }) => type)).toEqual([
      'execution.idle',
      'execution.running',
      'execution.completed',
    ]);
    expect(new Set(mine.events().map(({ executionId }) => executionId))).toEqual(new Set([id]));
    expect(exact.events()).toHaveLength(2);
    expect(new Set(exact.events().map(({ executionId }) => executionId))).toEqual(new Set([id, other]));
    const { fence } = await startNext(life, await createExecution(life, spec([node('a')])));
    await talk(fence, 520);
    await eventually(async () => failures.frames.at(-1)?.event === 'position', 'a position');
    expect(failures.events()).toEqual([]);
    expect(failures.frames.at(-1)?.id).not.toBe(failures.frames[0]?.id);
  });

  it('of a removed execution none are sent any more', async () => {
    const start = (await read()).lastId();
    const [gone, kept] = [await ended(), await ended()];
    await life.removals.finish(await life.removals.begin(gone, { by: 'me' }));
    const labelled = await read({ selector: [{ key: 'team', op: 'absent' }] }, { after: start });
    const reading = await read({}, { after: start });
    const count = (await stored(kept)).length;
    for (const one of [labelled, reading]) {
      await has(one, count);
      expect(ofOne(one.events(), kept)).toEqual(await stored(kept));
    }
    expect(labelled.events()).toHaveLength(count);
  });

  it('R64 a draining server says so, and everybody leaves', async () => {
    const [one, two] = [await read(), await read()];
    closing.abort();
    await Promise.all([one.over, two.over]);
    expect(one.frames.at(-1)).toEqual({ event: 'server_shutting_down', data: { retryAfterMs: 1_000 } });
    expect(fleet.isReading).toBe(false);
  });
});

describe('the reader of the events of all executions', () => {
  it('reads each change and each event once, however many clients there are, and nothing for none', async () => {
    const after = jest.spyOn(life.changes, 'after');
    const content = jest.spyOn(life.changes, 'event');
    await ended();
    expect(after).not.toHaveBeenCalled();
    const all = await Promise.all(Array.from({ length: 10 }, async () => read({ types: ['execution'] })));
    const id = await ended();
    const wanted = ofOne(await stored(id), id).filter(({ entity }) => entity === 'execution');
    await Promise.all(all.map(async (one) => has(one, wanted.length)));
    for (const one of all) expect(one.events()).toEqual(wanted);
    expect(content).toHaveBeenCalledTimes(wanted.length);
    expect(after.mock.calls.length).toBeLessThan(60);
    for (const one of all) one.leave();
    await eventually(async () => !fleet.isReading, 'the end of the reader');
    after.mockClear();
    await ended();
    expect(after).not.toHaveBeenCalled();
  });

  it('a first client that comes while the server is away is refused, and the next one is served', async () => {
    const away = new Error('Connection is closed.');
    const kept = jest.spyOn(life.changes, 'kept').mockRejectedValueOnce(away);
    await expect(fleet.join()).rejects.toBe(away);
    kept.mockRestore();
    const reading = await read();
    const id = await ended();
    await has(reading, (await stored(id)).length);
  });

  it('goes on after the server was away', async () => {
    const reading = await read();
    const after = jest.spyOn(life.changes, 'after').mockRejectedValueOnce(new Error('Connection is closed.'));
    const id = await ended();
    await has(reading, (await stored(id)).length);
    after.mockRestore();
    expect(reading.events()).toEqual(await stored(id));
  });
});
