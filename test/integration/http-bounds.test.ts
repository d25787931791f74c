import { readFileSync } from 'node:fs';
import { eventually, startFleet, type Fleet } from '../support/fleet';
import { head, openRaw, type RawConnection } from '../support/raw-http';

const MIB = 1024 * 1024;
const REQUEST_TIMEOUT_MS = 4_000;

let fleet: Fleet;
let url: string;
let auth: Record<string, string>;
const open: RawConnection[] = [];

beforeAll(async () => {
  fleet = await startFleet({ workers: 0, env: { BELAY_REQUEST_TIMEOUT_MS: String(REQUEST_TIMEOUT_MS) } });
  url = fleet.orchestrators[0]?.url ?? '';
  auth = { authorization: `Bearer ${fleet.token}` };
});
afterEach(() => {
  for (const { socket } of open.splice(0)) socket.destroy();
});
afterAll(async () => fleet.stop());

function raw(): RawConnection {
  const connection = openRaw(url);
  open.push(connection);
  return connection;
}

const residentMiB = (): number => {
  const status = readFileSync(`/proc/${fleet.orchestrators[0]?.process.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
};

const JSON_TYPE = { 'content-type': 'application/json' };
/** A body that lacks only its last byte, so that no server can have answered after reading it. */
const almost = Buffer.alloc(8 * MIB - 1, 0x20);

describe('a caller without a token', () => {
  it('is answered 401 before its body is read: 60 bodies of 8 MiB kept open leave the memory flat', async () => {
    const before = residentMiB();
    const callers = Array.from({ length: 60 }, raw);
    for (const caller of callers) {
      caller.send(head('POST', '/api/executions', { ...JSON_TYPE, 'content-length': 8 * MIB }));
      caller.send(almost);
    }
    await eventually(
      async () => callers.every(({ status }) => status() === 401),
      'an answer to each',
      30_000,
    );
    await Promise.all(callers.map(async ({ closed }) => closed));
    expect(residentMiB() - before).toBeLessThan(150);
    expect((await fleet.client.health()).ok).toBe(true);
  });

  it('is cut off when it goes on sending, long before the time-out of a request that is taken', async () => {
    const chunked = (headers: Record<string, string>) =>
      head('POST', '/api/executions', { ...JSON_TYPE, ...headers, 'transfer-encoding': 'chunked' });
    const callers = [raw()];
    callers[0]?.send(chunked(auth));
    const taken = callers[0]?.closed.then(() => 'the one that was taken');
    const dripping = setInterval(() => callers.forEach((each) => each.send('1\r\n \r\n')), 50);
    try {
      // One after the other: with the time-out alone the second would outlive the accepted one.
      for (const which of ['first', 'second']) {
        const refused = raw();
        refused.send(chunked({}));
        await eventually(async () => refused.status() === 401, 'the refusal');
        callers.push(refused);
        expect(await Promise.race([taken, refused.closed.then(() => which)])).toBe(which);
      }
    } finally {
      clearInterval(dripping);
    }
  });

  it('is told how to show its token, and a wrong method or path tells it nothing', async () => {
    for (const [method, path] of [
      ['GET', '/api/executions'],
      ['PUT', '/api/executions'],
      ['GET', '/api/nothing'],
      ['GET', '/metrics'],
      ['GET', '/healthy'],
      ['GET', '/health/nothing'],
    ] as const) {
      const response = await fetch(url + path, { method });
      expect([path, response.status, response.headers.get('www-authenticate')]).toEqual([
        path,
        401,
        'Bearer realm="belay"',
      ]);
      expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
      expect(await response.json()).toMatchObject({ code: 'UNAUTHORIZED', status: 401 });
    }
  });
});

describe('a slow caller', () => {
  it.each([
    ['of the body, with a token', true],
    ['of the head', false],
  ])('%s is cut off with 408 after the request time-out', async (_what, withBody) => {
    const caller = raw();
    if (withBody)
      caller.send(head('POST', '/api/executions', { ...auth, ...JSON_TYPE, 'content-length': 1_000 }));
    else caller.send('GET /api/executions HTTP/1.1\r\nhost: test\r\n');
    const dripping = setInterval(() => caller.send(withBody ? ' ' : 'x-a: b\r\n'), 100);
    await caller.closed;
    clearInterval(dripping);
    expect(caller.status()).toBe(408);
    expect(caller.said()).toContain('application/problem+json');
  });

  it('that waits for an answer is not: a stream outlives the request time-out', async () => {
    const { execution } = await fleet.client.createExecution(
      { name: 'idle', nodes: [{ id: 'a', run: { command: ['true'] } }] },
      { start: false },
    );
    const caller = raw();
    caller.send(head('GET', `/api/executions/${execution.id}/events`, auth));
    await eventually(async () => caller.said().includes('event: ready'), 'the stream');
    // Longer than the time-out, and than the interval of the server's looks for it.
    await expect(
      Promise.race([
        caller.closed.then(() => 'closed'),
        new Promise((resolve) => setTimeout(() => resolve('open'), REQUEST_TIMEOUT_MS * 2)),
      ]),
    ).resolves.toBe('open');
  });
});

describe('a request that no route takes', () => {
  it('is 405 with the methods its path has, 404 where there is no such path', async () => {
    const put = await fetch(`${url}/api/executions`, { method: 'PUT', headers: auth });
    expect([put.status, put.headers.get('allow')]).toEqual([405, 'GET, HEAD, POST']);
    expect(await put.json()).toMatchObject({ code: 'METHOD_NOT_ALLOWED' });
    const stop = await fetch(`${url}/api/executions/exe_1/stop`, { headers: auth });
    expect([stop.status, stop.headers.get('allow')]).toEqual([405, 'POST']);
    const nothing = await fetch(`${url}/api/nothing`, { headers: auth });
    expect(nothing.status).toBe(404);
    expect(await nothing.json()).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('is answered in the form of every other error when it is no HTTP, or its head too long', async () => {
    for (const [text, status] of [
      ['hello\r\n\r\n', 400],
      [`GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, 431],
    ] as const) {
      const caller = raw();
      caller.send(text);
      await caller.closed;
      expect(caller.status()).toBe(status);
      expect(caller.said()).toContain('content-type: application/problem+json');
      expect(JSON.parse(caller.said().split('\r\n\r\n')[1] ?? '')).toMatchObject({
        status,
        code: 'INVALID_REQUEST',
      });
    }
  });

  it('says at / what this is, and takes a token whose scheme is written in lower case', async () => {
    const root = await fetch(url);
    expect(root.status).toBe(200);
    expect(await root.text()).toMatch(/Belay[\s\S]*token[\s\S]*\/health/);
    const lower = { authorization: `bearer ${fleet.token}` };
    expect((await fetch(`${url}/api/workers`, { headers: lower })).status).toBe(200);
  });
});

describe('the Idempotency-Key header', () => {
  const spec = { name: 'keyed', nodes: [{ id: 'a', run: { command: ['true'] } }] };
  const submit = async (path: string, key: string): Promise<number> => {
    const body = JSON.stringify(path === '/api/agents' ? { run: { command: ['true'] } } : spec);
    const caller = raw();
    const headers = { ...auth, ...JSON_TYPE, 'idempotency-key': key, connection: 'close' };
    caller.send(head('POST', path, { ...headers, 'content-length': body.length }) + body);
    await caller.closed;
    return caller.status() ?? 0;
  };

  it.each(['/api/executions', '/api/agents'])(
    'of %s is 1 to 256 printable characters, or refused',
    async (path) => {
      const before = await fleet.life.valkey.redis.dbsize();
      for (const key of ['', 'a\tb', 'x'.repeat(257), 'x'.repeat(9_000), 'caf\u00e9'])
        expect([key.length, await submit(path, key)]).toEqual([key.length, 400]);
      expect(await fleet.life.valkey.redis.dbsize()).toBe(before);
      expect(await submit(path, `one ${path}`)).toBe(201);
      expect(await submit(path, `one ${path}`)).toBe(200);
    },
  );
});

describe('bodies', () => {
  const post = async (path: string, body: string): Promise<{ status: number; code: string }> => {
    const response = await fetch(url + path, { method: 'POST', headers: { ...auth, ...JSON_TYPE }, body });
    const answer = (await response.json()) as { code: string };
    return { status: response.status, code: answer.code };
  };

  it('of 8 MiB are taken where a spec is handed in, of 64 KiB elsewhere', async () => {
    const large = JSON.stringify({ note: 'x'.repeat(100_000) });
    expect(await post('/api/killswitch', large)).toEqual({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
    expect(await post('/api/latches', large)).toEqual({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
    expect(await post('/api/executions', large)).toEqual({ status: 400, code: 'INVALID_SPEC' });
    expect(await post('/api/executions', `"${'x'.repeat(8 * MIB)}"`)).toMatchObject({ status: 413 });
  });

  it('in flight are bounded in sum: more are told to come back, and a kill is still taken', async () => {
    const before = residentMiB();
    const callers = Array.from({ length: 40 }, raw);
    for (const caller of callers) {
      caller.send(head('POST', '/api/executions', { ...auth, ...JSON_TYPE, 'content-length': 8 * MIB }));
      caller.send(almost);
    }
    const refused = () => callers.filter(({ status }) => status() === 429);
    await eventually(async () => refused().length >= 36, 'refusals', 10_000);
    expect(refused()[0]?.said()).toMatch(/retry-after: 1/i);
    expect(refused()[0]?.said()).toContain('RATE_LIMITED');
    expect(await fleet.client.kill({ scope: { type: 'all' }, latch: false })).toMatchObject({
      complete: true,
    });
    expect(residentMiB() - before).toBeLessThan(200);
    for (const { socket } of callers) socket.destroy();
    // Their memory is released.
    await eventually(
      async () => (await post('/api/executions', `"${'x'.repeat(MIB)}"`)).status === 400,
      'room for another body',
    );
  });
});
