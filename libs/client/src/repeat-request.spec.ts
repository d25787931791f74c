import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionSpecInput } from './client.types';
import { createClient } from './create-client';

/** A spec of any shape: the orchestrator decides what is valid. */
const spec = (fields: object): ExecutionSpecInput => fields as ExecutionSpecInput;

const EXE = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const NOBODY = 'http://127.0.0.1:2';

interface Fake {
  readonly url: string;
  readonly asked: { path: string; key: string | undefined }[];
  close(): Promise<void>;
}

/** An orchestrator that gives the listed answers in turn, the last one for all further calls. */
async function orchestrator(
  ...replies: ((response: ServerResponse, request: IncomingMessage) => void)[]
): Promise<Fake> {
  const asked: Fake['asked'] = [];
  const server: Server = createServer((request, response) => {
    request.resume().on('end', () => {
      const key = request.headers['idempotency-key'];
      asked.push({
        path: `${request.method} ${request.url}`,
        key: key === undefined ? undefined : String(key),
      });
      (replies[asked.length - 1] ?? replies.at(-1))?.(response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  fakes.push(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked, close };
}

const fakes: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(fakes.splice(0).map(async (close) => close()));
});

const says =
  (status: number, body: unknown) =>
  (response: ServerResponse): void =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
const lost = (response: ServerResponse): void => void response.destroy();
const silent = (): void => undefined;
const unknown = says(503, { code: 'OUTCOME_UNKNOWN', detail: 'The reply was lost.' });
const away = says(503, { code: 'SERVER_UNREACHABLE', detail: 'It is away.' });

describe('a submit', () => {
  it.each([
    ['is lost', lost],
    ['is that the outcome is unknown', unknown],
    ['is that the state server cannot be reached', away],
    ['is that there is no room', says(429, { code: 'RATE_LIMITED', detail: 'Later.' })],
  ])('whose answer %s is repeated under one key of its own, and is no replay', async (_what, first) => {
    const fake = await orchestrator(first, says(200, { id: EXE }));
    const client = createClient({ url: fake.url });
    expect(await client.createExecution(spec({ name: 'a' }))).toEqual({
      execution: { id: EXE },
      replayed: false,
    });
    expect(fake.asked).toHaveLength(2);
    expect(fake.asked[0]?.key).toMatch(/^client-[0-9a-f-]{36}$/);
    expect(fake.asked[1]?.key).toBe(fake.asked[0]?.key);
    await client.createExecution(spec({ name: 'a' }));
    expect(fake.asked[2]?.key).not.toBe(fake.asked[0]?.key);
  });

  it('R65 that is refused for the rate waits as long as the refusal says', async () => {
    const busy = says(429, { code: 'RATE_LIMITED', detail: 'Later.', details: { retryAfterMs: 700 } });
    const fake = await orchestrator(busy, says(200, { id: EXE }));
    const begun = performance.now();
    await createClient({ url: fake.url }).createExecution(spec({ name: 'a' }));
    // A timer may fire a moment early. Without the wait of the refusal, the pause is at most 250 ms.
    expect(performance.now() - begun).toBeGreaterThan(650);
    expect(fake.asked).toHaveLength(2);
  });

  it('with a key in its spec has that one alone, and is a replay when it was there', async () => {
    const fake = await orchestrator(says(200, { id: EXE }));
    const { replayed } = await createClient({ url: fake.url }).createExecution(
      spec({ idempotencyKey: 'mine' }),
    );
    expect([replayed, fake.asked[0]?.key]).toEqual([true, undefined]);
  });

  it('that is refused is not repeated', async () => {
    const fake = await orchestrator(says(400, { code: 'INVALID_SPEC', detail: 'Bad.' }));
    await expect(createClient({ url: fake.url }).createExecution(spec({}))).rejects.toMatchObject({
      code: 'INVALID_SPEC',
    });
    expect(fake.asked).toHaveLength(1);
  });

  it('whose orchestrator dies with the answer is unknown, not unreachable, once it is given up', async () => {
    const fake: Fake = await orchestrator((response) => {
      response.destroy();
      void fake.close();
    });
    const client = createClient({ url: fake.url, repeatForMs: 400 });
    await expect(client.createExecution(spec({}))).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  });
});

describe('calls that must not run twice', () => {
  it.each([
    ['a retry', async (url: string) => createClient({ url }).retryExecution(EXE)],
    ['a kill with a latch', async (url: string) => createClient({ url }).kill({ scope: { type: 'all' } })],
  ])('%s is not repeated when its answer is lost', async (_what, call) => {
    const fake = await orchestrator(lost, says(200, {}));
    await expect(call(fake.url)).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(fake.asked).toHaveLength(1);
  });
});

describe('of several orchestrators', () => {
  it('the next is asked where one is not there, or drains, and from then on', async () => {
    const draining = await orchestrator(says(503, { code: 'DRAINING', detail: 'It drains.' }));
    const fake = await orchestrator(says(200, { items: [] }));
    const client = createClient({ url: [NOBODY, draining.url, fake.url] });
    await client.engageLatch({ scope: { type: 'all' } });
    await client.workers();
    expect([draining.asked.length, fake.asked.length, client.url]).toEqual([1, 2, fake.url]);
  });

  it('a silent one is left for the next with a stop, which is safe to repeat', async () => {
    const hung = await orchestrator(silent);
    const fake = await orchestrator(says(202, { executionId: EXE, status: 'stopping', orderId: 'ord_1' }));
    const client = createClient({ url: [hung.url, fake.url], timeoutMs: 12_000 });
    expect(await client.stopWithoutWaiting(EXE)).toMatchObject({ orderId: 'ord_1' });
    expect([hung.asked.length, fake.asked.length]).toEqual([1, 1]);
  }, 15_000);

  it('none of which is there is told by the last, at once', async () => {
    const client = createClient({ url: [NOBODY, NOBODY] });
    await expect(client.createExecution(spec({}))).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });
});
