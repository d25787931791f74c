import { readFileSync } from 'node:fs';
import {
  AGENT_MACHINE,
  EXECUTION_MACHINE,
  MAX_EVENT_BYTES,
  NODE_MACHINE,
  type BelayEvent,
} from '#libs/contracts';
import { ended } from '../support/executions';
import { openEvents, type EventClient } from '../support/event-client';
import { eventually, startFleet, type Fleet, type Member } from '../support/fleet';
import { head, openRaw, type RawConnection } from '../support/raw-http';

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

const sh = (script: string) => ({ command: [script], shell: true });

async function submit(nodes: unknown[], more: Record<string, unknown> = {}, start = true): Promise<string> {
  return (await fleet.client.createExecution({ name: 'streamed', nodes, ...more }, { start })).execution.id;
}

async function open(
  id: string,
  options: { lastId?: string; at?: string; query?: string; onEvent?: (event: BelayEvent) => void } = {},
): Promise<EventClient> {
  const { at = url, query = '', lastId, onEvent } = options;
  const client = await openEvents(`${at}/api/executions/${id}/events${query}`, {
    token: fleet.token,
    ...(lastId === undefined ? {} : { lastId }),
    ...(onEvent === undefined ? {} : { onEvent }),
  });
  clients.push(client);
  return client;
}

/** Every event of an ended execution, from a subscriber that came late. */
async function everything(id: string): Promise<BelayEvent[]> {
  const client = await open(id);
  await client.closed;
  expect(client.frames.at(-1)?.event).toBe('end');
  return client.events();
}

const residentMiB = ({ process: { pid } }: Member): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** The number of clients that the orchestrator counts at its event streams. */
async function streamsAt(at = url): Promise<number> {
  const response = await fetch(`${at}/metrics`, { headers: { authorization: `Bearer ${fleet.token}` } });
  return Number(/^belay_event_streams (\d+)$/m.exec(await response.text())?.[1]);
}

/** An event as execution.lua stores it. */
const storedEvent = (seq: number, data?: object): string =>
  JSON.stringify({ q: seq, t: 1, y: 'a.event', d: data });

/** Adds events to the stored stream, as retention or a busy execution would. */
async function addEvents(id: string, count: number, bytes: number): Promise<void> {
  const { redis, keys } = fleet.life.valkey;
  const data = { name: 'n', value: 'x'.repeat(bytes) };
  const last = await redis.hincrby(keys.execution(id), 'seq', count);
  const adding = redis.pipeline();
  for (let seq = last - count + 1; seq <= last; seq++) {
    adding.xadd(keys.execution(id, 'events'), '*', 'e', storedEvent(seq, data));
  }
  await adding.exec();
}

describe('R56 every change emits one event', () => {
  it('with id, sequence, type, entity, ids, from, to, time, attempt, reason and error, and no other does', async () => {
    const id = await submit(
      [
        { id: 'a', run: sh('true') },
        {
          id: 'b',
          dependsOn: ['a'],
          run: sh('exit 7'),
          maxAttempts: 2,
          backoff: { type: 'fixed', delayMs: 1 },
        },
        { id: 'c', dependsOn: ['b'], run: sh('true') },
        { id: 'd', run: sh('echo ready; sleep 600') },
      ],
      { onFailure: 'continue' },
    );
    await eventually(async () => (await fleet.client.execution(id)).nodes.skipped === 1, 'the failure');
    await fleet.client.stop(id, { reason: 'user_abort' });
    const events = await everything(id);

    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
    expect(new Set(events.map((event) => event.id)).size).toBe(events.length);
    expect(events.map(({ at }) => at)).toEqual(events.map(({ at }) => at).sort((x, y) => x - y));
    for (const event of events) {
      expect(event).toMatchObject({
        executionId: id,
        at: expect.any(Number),
        type: expect.stringMatching(/^\w+\.\w+$/),
      });
      if (event.to !== undefined) expect(event.type).toBe(`${event.entity}.${event.to}`);
      if (event.entity === 'agent') expect(event.agentId).toMatch(/^agt_/);
      if (event.entity !== 'execution') expect(event.nodeId).toMatch(/^[abcd]$/);
    }
    // The moves of each record are a chain of its table: a change without an event, or an event without a change, breaks it.
    const chains = new Map<string, BelayEvent[]>();
    for (const event of events.filter(({ to }) => to !== undefined)) {
      const key = event.entity === 'agent' ? `${event.agentId}` : `${event.entity} ${event.nodeId ?? ''}`;
      chains.set(key, [...(chains.get(key) ?? []), event]);
    }
    const tables = { execution: EXECUTION_MACHINE, node: NODE_MACHINE, agent: AGENT_MACHINE };
    for (const [key, chain] of chains) {
      for (const [i, { entity, from, to }] of chain.entries()) {
        expect([key, from]).toEqual([key, chain[i - 1]?.to ?? (entity === 'node' ? 'pending' : undefined)]);
        const { transitions } = tables[entity as keyof typeof tables];
        if (from !== undefined) expect(Object.keys(transitions[from as never])).toContain(to);
      }
    }
    // The last event of each equals its record.
    const last = (key: string) => chains.get(key)?.at(-1)?.to;
    const record = await fleet.client.execution(id);
    expect(last('execution ')).toBe(record.state);
    for (const node of (await fleet.client.nodes(id)).items)
      expect([node.id, last(`node ${node.id}`)]).toEqual([node.id, node.state]);
    const agents = (await fleet.client.agents({ executionId: id })).items;
    expect(agents).toHaveLength(4);
    for (const agent of agents) expect([agent.id, last(agent.id)]).toEqual([agent.id, agent.state]);

    const of = (type: string, nodeId?: string) =>
      events.filter((e) => e.type === type && e.nodeId === nodeId);
    expect(of('agent.failed', 'b').map(({ attempt }) => attempt)).toEqual([1, 2]);
    expect(of('node.failed', 'b')[0]?.error).toMatchObject({ code: 'EXIT' });
    expect(of('execution.stopping')[0]).toMatchObject({ reason: 'user_abort', from: 'running' });
  });
});

describe('R57 a subscriber that was away', () => {
  it('resumes without a loss, a double or another order, wherever it was cut off, and from another orchestrator', async () => {
    const id = await submit(
      ['a', 'b', 'c', 'd', 'e'].map((node, i, all) => ({
        id: node,
        run: sh(
          'for i in 1 2 3 4 5; do echo "{\\"type\\":\\"event\\",\\"name\\":\\"n$i\\"}" >&3; sleep 0.05; done',
        ),
        ...(i === 0 ? {} : { dependsOn: [all[i - 1]] }),
      })),
    );
    const seen: BelayEvent[] = [];
    for (let cut = 0; ; cut++) {
      const lastId = seen.at(-1)?.id;
      const at = cut % 2 === 0 ? url : (other.url ?? '');
      const client = await open(id, { at, ...(lastId === undefined ? {} : { lastId }) });
      const isOver = await eventually(
        async () =>
          client.frames.some(({ event }) => event === 'end') ? 'over' : client.events().length >= 3 && 'cut',
        'three more events, or the end',
      );
      client.destroy();
      expect(client.frames.some(({ event }) => event === 'reset')).toBe(false);
      seen.push(...client.events());
      if (isOver === 'over') break;
    }
    const whole = await everything(id);
    expect(seen.map((event) => event.id)).toEqual(whole.map((event) => event.id));
    expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, i) => i + 1));
  });

  it('resumes after the kill -9 of the orchestrator it was at', async () => {
    const first = await fleet.addOrchestrator();
    const id = await submit([
      { id: 'a', run: sh('sleep 1') },
      { id: 'b', dependsOn: ['a'], run: sh('true') },
    ]);
    const before = await open(id, { at: first.url ?? '' });
    await eventually(async () => before.events().some(({ type }) => type === 'agent.running'), 'its agent');
    first.process.kill('SIGKILL');
    await before.closed;
    const after = await open(id, { lastId: before.lastId() ?? '' });
    await after.closed;
    const seen = [...before.events(), ...after.events()];
    expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, i) => i + 1));
    expect(seen.at(-1)?.type).toBe('execution.completed');
  });

  it('learns of a gap, with the present record, when retention removed events that it missed', async () => {
    const { redis, keys } = fleet.life.valkey;
    const id = await submit([
      { id: 'a', run: sh('true') },
      { id: 'b', dependsOn: ['a'], run: sh('true') },
    ]);
    const all = (await ended(fleet.client, id), await everything(id));
    const key = keys.execution(id, 'events');
    await redis.xtrim(key, 'MAXLEN', 3);
    const kept = all.slice(-3);
    for (const lastId of [all[0]?.id, undefined]) {
      const client = await open(id, lastId === undefined ? {} : { lastId });
      await client.closed;
      expect(client.frames.map(({ event }) => event)).toEqual([
        'ready',
        'reset',
        'event',
        'event',
        'event',
        'end',
      ]);
      expect(client.frames[1]?.data).toMatchObject({
        oldest: kept[0]?.id,
        snapshot: { id, state: 'completed', nodes: { completed: 2 } },
      });
      expect(client.events()).toEqual(kept);
    }
    // A client with the event before the oldest kept, or any later one, misses nothing.
    const client = await open(id, { lastId: kept[0]?.id ?? '' });
    await client.closed;
    expect(client.frames.map(({ event }) => event)).toEqual(['ready', 'event', 'event', 'end']);
  });

  it('is told of a gap that opens while it is connected and slow', async () => {
    const { redis, keys } = fleet.life.valkey;
    const id = await submit([{ id: 'a', run: sh('true') }], {}, false);
    const client = await open(id);
    await eventually(async () => client.events().length === 1, 'the first event');
    // Both at once, like a busy execution's own trimming: the events in between were never read.
    const stream = keys.execution(id, 'events');
    await redis
      .multi()
      .xadd(stream, '*', 'e', storedEvent(2))
      .xtrim(stream, 'MAXLEN', 0)
      .xadd(stream, '*', 'e', storedEvent(3))
      .exec();
    await eventually(async () => client.events().length === 2, 'the event after the gap');
    expect(client.frames.map((frame) => frame.event)).toEqual(['ready', 'event', 'reset', 'event']);
  });

  it('with an id newer than every event, as after a failover, is told too', async () => {
    const id = await submit([{ id: 'a', run: sh('true') }]);
    await ended(fleet.client, id);
    const client = await open(id, { lastId: '9999999999999-0' });
    await client.closed;
    expect(client.frames.map(({ event }) => event)).toEqual(['ready', 'reset', 'end']);
  });
});

describe('R58 an event', () => {
  it('is visible only once it is stored', async () => {
    const { redis, keys } = fleet.life.valkey;
    const checks: Promise<boolean>[] = [];
    const id = await submit([
      { id: 'a', run: sh('sleep 0.3') },
      { id: 'b', dependsOn: ['a'], run: sh('true') },
    ]);
    const isStored = async (eventId: string) =>
      (await redis.xrange(keys.execution(id, 'events'), eventId, eventId)).length === 1;
    const client = await open(id, { onEvent: (event) => checks.push(isStored(event.id)) });
    await client.closed;
    expect(checks.length).toBeGreaterThan(8);
    expect(await Promise.all(checks)).toEqual(checks.map(() => true));
  });

  it('that is the last one reaches busy subscribers and late ones', async () => {
    const id = await submit([{ id: 'a', run: sh('sleep 1') }]);
    const crowd = await Promise.all(Array.from({ length: 30 }, async () => open(id)));
    const busy = await open(id);
    busy.pause();
    await Promise.all(crowd.map(async ({ closed }) => closed));
    busy.resume();
    await busy.closed;
    for (const client of [...crowd, busy, await open(id)]) {
      await client.closed;
      expect(client.events().at(-1)?.type).toBe('execution.completed');
      expect(client.frames.at(-1)).toMatchObject({ event: 'end', data: { state: 'completed' } });
    }
  });
});

describe('R59 the stream', () => {
  it('begins with ready, has ids, and headers that proxies leave alone', async () => {
    const id = await submit([{ id: 'a', run: sh('true') }]);
    const client = await open(id);
    await client.closed;
    expect(client.status).toBe(200);
    expect(client.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
    expect(client.frames[0]).toMatchObject({ event: 'ready', data: { executionId: id } });
    for (const frame of client.frames)
      if (frame.event === 'event') expect(frame.id).toBe((frame.data as BelayEvent).id);
  });

  it.each(['', 'garbage', '1-2-3', '-1-0', '1', '1-1%0a', `${'9'.repeat(400)}-0`, '1-0\tx'])(
    'refuses the Last-Event-ID %j with 400',
    async (lastId) => {
      const id = await submit([{ id: 'a', run: sh('true') }], {}, false);
      expect((await open(id, { lastId })).status).toBe(400);
    },
  );

  it('lets no line break of a caller, nor of an agent, make a field or a frame of its own', async () => {
    const caller = openRaw(url);
    clients.push({ destroy: () => void caller.socket.destroy() });
    // A bare CR and a folded line inside the header: no answer may contain what follows them as a line of its own.
    caller.send(
      head('GET', '/api/executions/exe_%0d%0aevent:%20end/events', {
        authorization: `Bearer ${fleet.token}`,
        'last-event-id': '1-0\r event: end',
        connection: 'close',
      }),
    );
    await caller.closed;
    expect(caller.status()).toBeGreaterThanOrEqual(400);
    expect(caller.said()).not.toMatch(/^event: end/m);

    const text = 'one\r\n\r\nevent: end\ndata: {}\n\rid: 1-1\u2028two';
    const said = JSON.stringify({ type: 'event', name: 'odd', data: { text } });
    const id = await submit([
      { id: 'a', run: { command: ['/bin/sh', '-c', `printf '%s\\n' "$SAID" >&3`], env: { SAID: said } } },
    ]);
    const client = await open(id);
    await client.closed;
    expect(client.events().find(({ type }) => type === 'agent.event')?.data).toMatchObject({
      name: 'odd',
      value: JSON.stringify({ text }),
    });
    expect(client.frames.filter(({ event }) => event === 'end')).toHaveLength(1);
  });
});

describe('R60 a comment', () => {
  it('is sent after silence, also before the first event, and as long as it is silent', async () => {
    const id = await submit([{ id: 'a', run: sh('true') }], {}, false);
    const { redis, keys } = fleet.life.valkey;
    await redis.del(keys.execution(id, 'events'));
    const client = await open(id);
    await eventually(async () => client.comments.length >= 3, 'three comments', 30 * KEEP_ALIVE_MS);
    expect(client.frames.map(({ event }) => event)).toEqual(['ready']);
    expect(client.comments).toEqual(client.comments.map(() => 'keep-alive'));
  });

  it('is not sent where events come more often', async () => {
    const id = await submit([
      {
        id: 'a',
        run: sh(
          'for i in $(seq 15); do echo "{\\"type\\":\\"event\\",\\"name\\":\\"n\\"}" >&3; sleep 0.2; done',
        ),
      },
    ]);
    const client = await open(id);
    await client.closed;
    const apart = client.events().map(({ at }, i, all) => at - (all[i - 1]?.at ?? at));
    // One interval may pass while the agent is started, and on a busy machine between two events.
    expect(client.comments.length).toBeLessThanOrEqual(
      apart.filter((ms) => ms > KEEP_ALIVE_MS / 2).length + 1,
    );
  });
});

describe('R61 a stream of one execution', () => {
  it('ends after its terminal event, also for a client that comes when it is over; a retried one begins a new stream', async () => {
    const id = await submit([{ id: 'a', run: sh('exit 3'), maxAttempts: 1 }]);
    const client = await open(id);
    await client.closed;
    expect(client.frames.slice(-2)).toMatchObject([
      { event: 'event', data: { type: 'execution.failed' } },
      { event: 'end', data: { state: 'failed' } },
    ]);
    const late = await open(id, { lastId: client.lastId() ?? '' });
    await late.closed;
    expect(late.frames.map(({ event }) => event)).toEqual(['ready', 'end']);
    await fleet.client.retryExecution(id);
    const again = await open(id, { lastId: client.lastId() ?? '' });
    await again.closed;
    expect(again.events()[0]).toMatchObject({ from: 'failed', to: 'running' });
    expect(again.frames.at(-1)?.event).toBe('end');
  });
});

describe('R62 a client that never reads', () => {
  // The largest event of an agent.
  const BYTES = MAX_EVENT_BYTES;
  const EVENTS = 2_000;

  it('is bounded and cut off, and a slow one that reads gets everything', async () => {
    const id = await submit([{ id: 'a', run: sh('true') }], {}, false);
    await addEvents(id, EVENTS, BYTES);
    const member = fleet.orchestrators[0] as Member;
    const before = residentMiB(member);
    const path = `/api/executions/${id}/events`;
    const deaf: RawConnection[] = Array.from({ length: 20 }, () => {
      const raw = openRaw(url);
      raw.socket.pause();
      raw.send(head('GET', path, { authorization: `Bearer ${fleet.token}` }));
      clients.push({ destroy: () => void raw.socket.destroy() });
      return raw;
    });
    await eventually(async () => (await streamsAt()) >= deaf.length, 'their streams');
    let highest = 0;
    const slow = await open(id);
    await eventually(
      async () => {
        highest = Math.max(highest, residentMiB(member));
        // A pause after each look: all of them together take longer than the time after which a silent client is dropped.
        slow.pause();
        await new Promise((resolve) => setImmediate(resolve));
        slow.resume();
        return slow.events().length === EVENTS + 1;
      },
      'every event at the slow client',
      40_000,
    );
    // The server has closed their sockets although they still read nothing.
    await eventually(async () => (await streamsAt()) === 1, 'the end of the others', 20_000);
    expect(slow.events().map(({ seq }) => seq)).toEqual(Array.from({ length: EVENTS + 1 }, (_, i) => i + 1));
    // 20 × 32 MiB were requested.
    expect(highest - before).toBeLessThan(200);
  });
});

describe('R63 a client that is lost', () => {
  it.each(['reset', 'closed'] as const)(
    'is noticed when its connection is %s, while nothing is sent',
    async (how) => {
      const id = await submit([{ id: 'a', run: sh('true') }], {}, false);
      const before = await streamsAt();
      const client = openRaw(url);
      clients.push({ destroy: () => void client.socket.destroy() });
      client.send(head('GET', `/api/executions/${id}/events`, { authorization: `Bearer ${fleet.token}` }));
      await eventually(async () => client.said().includes('event: ready'), 'the stream');
      expect(await streamsAt()).toBe(before + 1);
      if (how === 'reset') client.socket.resetAndDestroy();
      else client.socket.end();
      await eventually(async () => (await streamsAt()) === before, 'its end', 5_000);
    },
  );

  const sleeper = [{ id: 'a', run: sh('sleep 600') }];

  it('costs its execution nothing unless it asked for that', async () => {
    const id = await submit(sleeper);
    const other = await submit(sleeper);
    (await open(id)).destroy();
    // The other execution is stopped for its lost client: by then this one would have been, too.
    (await open(other, { query: '?cancelOnDisconnect=1' })).destroy();
    await eventually(
      async () => (await fleet.client.execution(other)).state === 'stopped',
      'the other stop',
      40_000,
    );
    expect((await fleet.client.execution(id)).state).toBe('running');
    await fleet.client.stop(id);
  });

  it('with cancelOnDisconnect has 5 s to come back, then its execution is stopped, with a reason and its actor', async () => {
    const id = await submit(sleeper);
    const client = await open(id, { query: '?cancelOnDisconnect=1' });
    await client.frame('ready');
    const leftAt = Number((await fleet.life.valkey.redis.time())[0]) * 1_000;
    client.destroy();
    const record = await eventually(
      async () => {
        const now = await fleet.client.execution(id);
        return now.state === 'stopped' && now;
      },
      'the stop',
      40_000,
    );
    expect(record).toMatchObject({ reason: 'user_abort', actor: 'cancelOnDisconnect' });
    expect(Number(record.stoppedAt) - leftAt).toBeGreaterThanOrEqual(4_900);
  });

  it('and comes back, to another orchestrator, keeps it running; its first orchestrator may die', async () => {
    const first = await fleet.addOrchestrator();
    const id = await submit(sleeper);
    const control = await submit(sleeper);
    const query = '?cancelOnDisconnect=1';
    const one = await open(id, { query, at: first.url ?? '' });
    await one.frame('ready');
    first.process.kill('SIGKILL');
    await one.closed;
    const two = await open(id, { query, at: other.url ?? '' });
    await two.frame('ready');
    two.destroy();
    const three = await open(id, { query });
    await three.frame('ready');
    (await open(control, { query })).destroy();
    await eventually(
      async () => (await fleet.client.execution(control)).state === 'stopped',
      'the control',
      40_000,
    );
    expect((await fleet.client.execution(id)).state).toBe('running');
    await fleet.client.stop(id);
    await three.frame('end');
    expect(three.frames.at(-1)).toMatchObject({ event: 'end' });
  });
});

describe('R64 a server that shuts down', () => {
  it('says so to each stream, with how long to wait, before it closes them', async () => {
    const member = other;
    const id = await submit([{ id: 'a', run: sh('sleep 600') }]);
    const client = await open(id, { at: member.url ?? '', query: '?cancelOnDisconnect=1' });
    await client.frame('ready');
    member.process.kill('SIGTERM');
    await client.closed;
    expect(client.frames.at(-1)).toEqual({ event: 'server_shutting_down', data: { retryAfterMs: 1_000 } });
    expect(client.retryMs()).toBe(1_000);
    expect(await member.exited).toBe(0);
    // The client did not leave: its execution goes on, and is followed elsewhere.
    const next = await open(id, { lastId: client.lastId() ?? '' });
    await next.frame('ready');
    expect((await fleet.client.execution(id)).state).toBe('running');
    await fleet.client.stop(id);
    await next.closed;
    const seqs = [...client.events(), ...next.events()].map(({ seq }) => seq);
    expect(seqs).toEqual(seqs.map((_, i) => i + 1));
  });
});

it('a stream that waits often leaves no warning in the log of its server', async () => {
  const id = await submit([
    {
      id: 'a',
      run: sh(
        'for i in $(seq 30); do echo "{\\"type\\":\\"event\\",\\"name\\":\\"n\\"}" >&3; sleep 0.15; done',
      ),
    },
  ]);
  const client = await open(id);
  await client.closed;
  expect(client.events().length).toBeGreaterThan(20);
  for (const member of fleet.orchestrators) expect(member.log()).not.toContain('MaxListenersExceeded');
});
