import { createClient } from '#libs/client';
import type { BelayEvent } from '#libs/contracts';
import { openEvents, type EventClient } from '../support/event-client';
import { ended } from '../support/executions';
import { eventually, startFleet, type Fleet, type Member } from '../support/fleet';

const KEEP_ALIVE_MS = 1_000;
let fleet: Fleet;
let url: string;
/** A second orchestrator. */
let other: Member;
const clients: { destroy(): void }[] = [];

beforeAll(async () => {
  fleet = await startFleet({ workers: 1, env: { BELAY_STREAM_KEEPALIVE_MS: String(KEEP_ALIVE_MS) } });
  url = fleet.orchestrators[0]?.url ?? '';
  other = await fleet.addOrchestrator();
});
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
});
afterAll(async () => fleet.stop());

interface OpenOptions {
  readonly lastId?: string;
  readonly at?: string;
  readonly query?: string;
  readonly token?: string;
}

async function open({
  at = url,
  query = '',
  lastId,
  token = fleet.token,
}: OpenOptions = {}): Promise<EventClient> {
  const client = await openEvents(`${at}/api/events${query}`, {
    token,
    ...(lastId === undefined ? {} : { lastId }),
  });
  clients.push(client);
  return client;
}

async function submit(labels: Record<string, string> = {}, command = ['true']): Promise<string> {
  const nodes = [{ id: 'a', run: { command } }];
  return (await fleet.client.createExecution({ name: 'x', labels, nodes })).execution.id;
}

/** The stored events of an execution that has ended. */
async function everything(id: string): Promise<BelayEvent[]> {
  await ended(fleet.client, id);
  return fleet.life.executions.events(id, '0-0');
}

/** The number of clients that the orchestrator counts at its event streams. */
async function streamsAt(): Promise<number> {
  const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${fleet.token}` } });
  return Number(/^belay_event_streams (\d+)$/m.exec(await response.text())?.[1]);
}

const of = (client: EventClient, id: string): BelayEvent[] =>
  client.events().filter(({ executionId }) => executionId === id);

async function hasAll(client: EventClient, id: string, expected: readonly BelayEvent[]): Promise<void> {
  await eventually(async () => of(client, id).length >= expected.length, `the events of ${id}`);
  expect(of(client, id)).toEqual(expected);
}

it('R57 ◆ a subscriber of all executions gets each event once and in order, also across two orchestrators', async () => {
  const first = await open();
  expect(first.headers).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  });
  await first.frame('ready');
  const ids = await Promise.all(Array.from({ length: 6 }, async () => submit()));
  const expected = new Map(await Promise.all(ids.map(async (id) => [id, await everything(id)] as const)));
  for (const [id, events] of expected) await hasAll(first, id, events);
  // It was cut in the middle, and comes back at the other orchestrator.
  const frames = first.frames.filter(({ event }) => event === 'event');
  const middle = Math.floor(frames.length / 2);
  const second = await open({ at: other.url ?? '', lastId: frames[middle]?.id ?? '' });
  await eventually(async () => second.events().length === frames.length - middle - 1, 'the other events');
  const both = [...frames.slice(0, middle + 1).map(({ data }) => data as BelayEvent), ...second.events()];
  for (const [id, events] of expected) expect(both.filter((one) => one.executionId === id)).toEqual(events);
});

it('the client follows all executions, and learns its position', async () => {
  const client = createClient({ url: [url, other.url ?? ''], token: fleet.token });
  const ending = new AbortController();
  const taken: BelayEvent[] = [];
  let position: string | undefined;
  const opened = (async () => {
    const options = {
      type: ['execution'],
      signal: ending.signal,
      onPosition: (id: string) => (position = id),
    };
    for await (const event of client.allEvents(options)) taken.push(event);
  })();
  await eventually(async () => position !== undefined, 'the first position');
  const id = await submit();
  const events = (await everything(id)).filter(({ entity }) => entity === 'execution');
  await eventually(async () => taken.length === events.length, 'its events');
  ending.abort();
  await opened;
  expect(taken).toEqual(events);
});

it('filters by type, state and labels; a wrong query or position is refused with every problem', async () => {
  const one = await open({ query: '?type=node,execution.completed&state=completed&label=team%3Da' });
  const all = await open();
  await Promise.all([one.frame('ready'), all.frame('ready')]);
  const [mine, others] = [await submit({ team: 'a' }), await submit({ team: 'b' })];
  await hasAll(all, others, await everything(others));
  const wanted = (await everything(mine)).filter(
    ({ entity, to }) => to === 'completed' && (entity === 'node' || entity === 'execution'),
  );
  expect(wanted).toHaveLength(2);
  await hasAll(one, mine, wanted);
  expect(one.events()).toHaveLength(2);

  const headers = { authorization: `Bearer ${fleet.token}` };
  const wrong = await fetch(`${url}/api/events?type=node.broken&state=dead&label=a%3D&label=`, { headers });
  expect(wrong.status).toBe(400);
  const { code, problems } = (await wrong.json()) as { code: string; problems: { path: string }[] };
  expect([code, problems.map(({ path }) => path)]).toEqual([
    'INVALID_REQUEST',
    ['type', 'state', 'label', 'label'],
  ]);
  const position = await fetch(`${url}/api/events`, { headers: { ...headers, 'last-event-id': '1-0' } });
  expect(position.status).toBe(400);
  expect(await position.json()).toMatchObject({ problems: [{ path: 'Last-Event-ID', code: 'PATTERN' }] });
});

it('R65 a bound token gets the events of its own executions only, whatever it asks for', async () => {
  const { secret } = await createClient({ url, token: fleet.token }).createToken({
    name: 'bound',
    role: 'viewer',
    selector: 'tenant=a',
  });
  const all = await open();
  const bound = [await open({ token: secret }), await open({ token: secret, query: '?label=tenant%3Db' })];
  await Promise.all([all, ...bound].map(async (client) => client.frame('ready')));
  const [theirs, mine] = [await submit({ tenant: 'b' }), await submit({ tenant: 'a' })];
  await hasAll(all, theirs, await everything(theirs));
  const [own, asking] = bound as [EventClient, EventClient];
  await hasAll(own, mine, await everything(mine));
  expect(own.events().every(({ executionId }) => executionId === mine)).toBe(true);
  expect(asking.events()).toEqual([]);
});

it('R60 R62 a silent stream gets comments, and a client that does not read is cut off', async () => {
  await eventually(async () => (await streamsAt()) === 0, 'the end of all streams before');
  const silent = await open({ query: '?type=execution.soft-budget' });
  await eventually(async () => silent.comments.length >= 2, 'two comments');
  const slow = await open();
  await slow.frame('ready');
  slow.pause();
  const id = await submit({}, ['sleep', '600']);
  const { redis, keys } = fleet.life.valkey;
  // Far more than the sockets take.
  const data = { name: 'n', value: 'x'.repeat(200_000) };
  for (let seq = 1_000; seq < 1_100; seq++) {
    const eventId = await redis.xadd(
      keys.execution(id, 'events'),
      '*',
      'e',
      JSON.stringify({ q: seq, t: 1, y: 'a.event', d: data }),
    );
    const change = ['x', id.slice(4), 'i', eventId ?? '', 'y', 'a.event', 'o', ''];
    await redis.xadd(keys.shard(keys.tagOf(id), 'changes'), '*', ...change);
  }
  await eventually(async () => (await streamsAt()) === 1, 'the end of the slow stream');
  slow.resume();
  await slow.closed;
  expect(slow.events().length).toBeLessThan(100);
  await fleet.client.stop(id);
});

it('R64 a draining orchestrator says so, and the stream goes on at another', async () => {
  const third = await fleet.addOrchestrator();
  const client = await open({ at: third.url ?? '' });
  await client.frame('ready');
  third.process.kill('SIGTERM');
  expect(await client.frame('server_shutting_down')).toMatchObject({ data: { retryAfterMs: 1_000 } });
  await client.closed;
  expect(await third.exited).toBe(0);
  const id = await submit();
  const next = await open({ lastId: client.lastId() ?? '' });
  await hasAll(next, id, await everything(id));
});
