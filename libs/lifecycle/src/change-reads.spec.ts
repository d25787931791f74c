import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EVENT_ENTITIES, EVENT_STATES, EVENT_TYPES } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { createExecution, node, spec, startNext, useLife } from '../../../test/support/life';
import { NO_CHANGE } from './change-reads';
import { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;

useLife((rig) => ({ valkey } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  life = new LifecycleService(valkey, { retentionMs: 60_000 });
});

/** An execution that has ended. */
async function ended(labels = {}): Promise<string> {
  const id = await createExecution(life, spec([node('a')], { labels }));
  const { fence } = await startNext(life, id);
  await life.agents.finish(fence, { state: 'completed', result: 1 });
  return id;
}

const changesOf = async (id: string) => life.changes.after(valkey.keys.tagOf(id), NO_CHANGE, 1_000);

it('has every event of every execution of a shard, in the order of each', async () => {
  const [id, other] = [await ended(), await ended()];
  for (const one of [id, other]) {
    const changes = (await changesOf(one)).filter(({ executionId }) => executionId === one);
    const events = await life.executions.events(one, '0-0');
    expect(events.length).toBeGreaterThan(5);
    expect(changes.map(({ eventId, type, to }) => [eventId, type, to])).toEqual(
      events.map((event) => [event.id, event.type, event.to]),
    );
    expect(await Promise.all(changes.map(async (change) => life.changes.event(change)))).toEqual(events);
  }
});

it('goes on after an id, at most so many at a time', async () => {
  const id = await ended();
  const tag = valkey.keys.tagOf(id);
  const all = await changesOf(id);
  expect(await life.changes.after(tag, NO_CHANGE, 2)).toEqual(all.slice(0, 2));
  expect(await life.changes.after(tag, all[1]?.id ?? '', 3)).toEqual(all.slice(2, 5));
  expect(await life.changes.after(tag, all.at(-1)?.id ?? '', 3)).toEqual([]);
});

it('knows which changes are kept, and whether older ones were', async () => {
  const id = await createExecution(life, spec([node('a')]), false);
  const tag = valkey.keys.tagOf(id);
  const [first] = await changesOf(id);
  expect(await life.changes.kept(tag)).toEqual({ first: first?.id, last: first?.id, isTrimmed: false });
  const other = valkey.keys.tags().find((one) => one !== tag) ?? '';
  expect(await life.changes.kept(other)).toBeUndefined();
  // The server trims whole blocks of 100.
  life = new LifecycleService(valkey, { retentionMs: 60_000, shardChanges: 10 });
  const { id: noisy, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
  for (let n = 1; n <= 500; n++) await life.agents.report(fence, { events: [{ n, name: 'x', data: n }] });
  const busy = valkey.keys.tagOf(noisy);
  expect(await life.changes.kept(busy)).toMatchObject({ isTrimmed: true });
  expect(await valkey.redis.xlen(valkey.keys.shard(busy, 'changes'))).toBeLessThan(200);
});

it('the events and labels of a removed execution are not there', async () => {
  const id = await ended({ team: 'x' });
  const [change] = await changesOf(id);
  if (change === undefined) throw new Error('no change');
  expect(await life.changes.labels(id)).toEqual({ team: 'x' });
  await life.removals.finish(await life.removals.begin(id, { by: 'me' }));
  expect(await life.changes.event(change)).toBeUndefined();
  expect(await life.changes.labels(id)).toBeUndefined();
});

it('an event that its execution keeps no longer is told from that of a removed execution', async () => {
  const { id, fence } = await startNext(life, await createExecution(life, spec([node('a')])));
  const [, second] = await changesOf(id);
  if (second === undefined) throw new Error('no change');
  expect(await life.changes.event(second)).toMatchObject({ executionId: id });
  await valkey.redis.xtrim(valkey.keys.execution(id, 'events'), 'MAXLEN', '1');
  expect(await life.changes.event(second)).toBe('trimmed');
  await life.agents.finish(fence, { state: 'completed', result: 1 });
});

it('R31 a list of another type costs its readers its changes, and nobody else anything', async () => {
  const id = await ended();
  const tag = valkey.keys.tagOf(id);
  await valkey.redis.set(valkey.keys.shard(tag, 'changes'), 'no stream');
  expect(await changesOf(id)).toEqual([]);
  expect(await life.changes.kept(tag)).toBeUndefined();
  let next = '';
  do next = await ended();
  while (valkey.keys.tagOf(next) !== tag);
  expect(await life.executions.get(next)).toMatchObject({ state: 'completed' });
  expect(await valkey.quarantine.list()).toMatchObject([{ problem: 'its key has the wrong type' }]);
});

it('R31 an entry that somebody else wrote has no event, and is passed over', async () => {
  const id = await ended();
  const tag = valkey.keys.tagOf(id);
  const added = await valkey.redis.xadd(valkey.keys.shard(tag, 'changes'), '*', 'a', 'b');
  const last = (await changesOf(id)).at(-1);
  if (last === undefined) throw new Error('no change');
  expect(last).toEqual({ id: added, executionId: '', eventId: '', type: '', to: undefined });
  expect(await life.changes.event(last)).toBeUndefined();
});

it('knows the type of every event that a script emits', () => {
  const folder = join(__dirname, '../../valkey/lua');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.lua'),
  );
  const scripts = files.map((file) => readFileSync(join(folder, file), 'utf8')).join('\n');
  const emitted = [...scripts.matchAll(/\bemit\(\{ type = '([a-z]+\.[a-z-]+)'/g)].map(
    ([, type = '']) => type,
  );
  const told = [...scripts.matchAll(/'((?:agent|execution|node|ask)\.[a-z-]+)'/g)].map(
    ([, type = '']) => type,
  );
  expect(emitted.length).toBeGreaterThan(3);
  // Of a worker, not of an execution.
  expect(told.filter((type) => !EVENT_TYPES.includes(type) && type !== 'agent.escapee')).toEqual([]);
  expect(emitted.filter((type) => !EVENT_TYPES.includes(type))).toEqual([]);
  for (const type of EVENT_TYPES) expect(EVENT_ENTITIES).toContain(type.split('.')[0]);
  expect(new Set(EVENT_TYPES).size).toBe(EVENT_TYPES.length);
  expect(EVENT_STATES).toEqual(expect.arrayContaining(['running', 'suspended', 'killed', 'answered']));
});
