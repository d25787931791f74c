import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BelayError } from '#libs/contracts';
import { buildQuery } from './build-query';
import { createClient } from './create-client';
import type { BelayClient, ExecutionSpecInput } from './client.types';

/** A spec of any shape: the orchestrator decides what is valid. */
const spec = (fields: object): ExecutionSpecInput => fields as ExecutionSpecInput;

const EXE = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';

describe('the client', () => {
  let server: Server;
  let seen: { method: string; url: string; body: string; headers: IncomingMessage['headers'] }[];
  let reply: (request: IncomingMessage, response: ServerResponse) => void;
  let client: BelayClient;

  beforeEach(async () => {
    seen = [];
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        seen.push({ method: request.method ?? '', url: request.url ?? '', body, headers: request.headers });
        reply(request, response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    client = createClient({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
      token: 'secret',
    });
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const json = (status: number, body: unknown) => (_: IncomingMessage, response: ServerResponse) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  const failure = async (promise: Promise<unknown>): Promise<BelayError> => {
    try {
      await promise;
    } catch (error) {
      return error as BelayError;
    }
    throw new Error('it did not fail');
  };

  it('sends the token and the raw spec, and tells a replay from a creation', async () => {
    reply = json(201, { id: EXE });
    expect(await client.createExecution(spec({ name: 'a' }))).toEqual({
      execution: { id: EXE },
      replayed: false,
    });
    reply = json(200, { id: EXE });
    const keyed = { name: 'a', idempotencyKey: 'k' };
    expect(await client.createExecution(spec(keyed), { start: false })).toMatchObject({ replayed: true });
    expect(seen.map((call) => `${call.method} ${call.url} ${call.body}`)).toEqual([
      'POST /api/executions {"name":"a"}',
      'POST /api/executions?start=false {"name":"a","idempotencyKey":"k"}',
    ]);
    expect(seen[0]?.headers.authorization).toBe('Bearer secret');
  });

  it('names every route', async () => {
    reply = json(200, {});
    await client.executions({ state: ['running', 'stopping'], labels: { team: 'data' }, limit: 5 });
    await client.execution(EXE);
    await client.nodes(EXE, { state: ['failed'], cursor: 'c' });
    await client.node(EXE, 'a.b');
    await client.start(EXE);
    await client.stop(EXE, { reason: 'user_abort', graceMs: 100 });
    await client.stopWithoutWaiting(EXE);
    await client.deleteExecution(EXE);
    await client.createAgent({ run: { command: ['true'] } });
    await client.agents({ executionId: EXE, state: ['running'] });
    await client.agent('agt_1');
    await client.killAgent('agt_1', { mode: 'immediate' });
    await client.logs('agt_1');
    await client.kill({ scope: { type: 'all' } });
    await client.killWithoutWaiting({ scope: { type: 'all' } });
    await client.planKill({ scope: { type: 'all' } });
    await client.receipts();
    await client.receipt('ord_1');
    await client.workers();
    await client.health();
    expect(seen.map((call) => `${call.method} ${call.url}`)).toEqual([
      'GET /api/executions?state=running%2Cstopping&limit=5&label=team%3Ddata',
      `GET /api/executions/${EXE}`,
      `GET /api/executions/${EXE}/nodes?state=failed&cursor=c`,
      `GET /api/executions/${EXE}/nodes/a.b`,
      `POST /api/executions/${EXE}/start`,
      `POST /api/executions/${EXE}/stop`,
      `POST /api/executions/${EXE}/stop?wait=0`,
      `DELETE /api/executions/${EXE}`,
      'POST /api/agents',
      `GET /api/agents?state=running&executionId=${EXE}`,
      'GET /api/agents/agt_1',
      'POST /api/agents/agt_1/kill',
      'GET /api/agents/agt_1/logs',
      'POST /api/killswitch',
      'POST /api/killswitch?wait=0',
      'POST /api/killswitch?dryRun=1',
      'GET /api/killswitch',
      'GET /api/killswitch/ord_1',
      'GET /api/workers',
      'GET /health',
    ]);
  });

  it("turns problem+json into a BelayError with the server's code and every problem", async () => {
    reply = json(400, {
      type: 'x',
      title: 'Bad spec',
      status: 400,
      code: 'INVALID_SPEC',
      detail: 'The execution spec is not valid.',
      problems: [{ path: 'nodes[0].id', code: 'MISSING', message: 'Give it an id.' }, 'junk'],
      details: { count: 1 },
    });
    const error = await failure(client.createExecution(spec({})));
    expect(error).toBeInstanceOf(BelayError);
    expect(error).toMatchObject({
      code: 'INVALID_SPEC',
      message: 'The execution spec is not valid.',
      problems: [{ path: 'nodes[0].id', code: 'MISSING', message: 'Give it an id.' }],
      details: { status: 400, count: 1 },
    });
  });

  it.each([
    [401, 'UNAUTHORIZED'],
    [403, 'UNAUTHORIZED'],
    [413, 'PAYLOAD_TOO_LARGE'],
    [415, 'UNSUPPORTED_MEDIA_TYPE'],
    [418, 'INVALID_REQUEST'],
    [429, 'RATE_LIMITED'],
    [500, 'INTERNAL'],
    [502, 'SERVER_UNREACHABLE'],
    [503, 'SERVER_UNREACHABLE'],
    [504, 'TIMEOUT'],
  ])('maps a bare HTTP %i to %s', async (status, code) => {
    reply = (_, response) => response.writeHead(status).end('<html>');
    expect(await failure(client.workers())).toMatchObject({
      code,
      message: `GET /api/workers was answered with HTTP ${status}.`,
    });
  });

  it('does not take the 404 of another program for the absence of an id', async () => {
    reply = (_, response) => response.writeHead(404).end('<html>');
    expect(await failure(client.execution('exe_1'))).toMatchObject({
      code: 'SERVER_REFUSED',
      message:
        'GET /api/executions/exe_1 was answered with HTTP 404, and not by an orchestrator. Check the address.',
    });
  });

  it('says how to start an orchestrator when none answers', async () => {
    const away = createClient({ url: 'http://127.0.0.1:2' });
    expect(await failure(away.createExecution(spec({})))).toMatchObject({
      code: 'SERVER_UNREACHABLE',
      message: 'No orchestrator answers at http://127.0.0.1:2 (connection refused). Start one with: belay up',
    });
  });

  it('calls the outcome unknown when the reply to a write is lost, and not so for a read', async () => {
    reply = (_, response) => response.destroy();
    const hasty = createClient({ url: client.url, repeatForMs: 0 });
    expect(await failure(hasty.start(EXE))).toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(await failure(client.workers())).toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });

  it('bounds a call that gets no answer', async () => {
    reply = () => undefined;
    const hasty = createClient({ url: client.url, timeoutMs: 100 });
    expect(await failure(hasty.workers())).toMatchObject({
      code: 'SERVER_UNREACHABLE',
      message: `The orchestrator at ${client.url} gave no answer within 0.1 s. It hangs or is overloaded. Look with: belay doctor`,
    });
    expect(await failure(hasty.stopWithoutWaiting(EXE))).toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringMatching(
        /had no answer within [\d.]+ s\. The stop may not have been stored\. Look with: belay get exe_/,
      ),
    });
    expect(await failure(hasty.killWithoutWaiting({ scope: { type: 'all' } }))).toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringMatching(/It may not have been stored\. Look with: belay audit, belay latches$/),
    });
  });

  it('ends with the reason of an aborted signal', async () => {
    reply = () => undefined;
    const controller = new AbortController();
    const call = failure(client.workers({ signal: controller.signal }));
    controller.abort(new Error('enough'));
    expect((await call).message).toBe('enough');
  });

  it('takes a 503 of /health as an answer', async () => {
    reply = json(503, { state: 'idle' });
    expect(await client.health()).toEqual({ ok: false, status: 503, state: 'idle', body: { state: 'idle' } });
  });

  it('keeps an id in its place in the path', async () => {
    reply = json(200, {});
    await client.execution('../workers?x');
    expect(seen[0]?.url).toBe('/api/executions/..%2Fworkers%3Fx');
    expect((await failure(client.execution('..'))).code).toBe('INVALID_REQUEST');
  });

  it('refuses an address that is not http', () => {
    expect(() => createClient({ url: 'localhost:7070' })).toThrow(
      '"localhost:7070" is not an http(s) address such as http://127.0.0.1:7070.',
    );
  });

  it('builds a query from what is there', () => {
    expect(buildQuery({ a: undefined, b: [], c: 0 }, {})).toBe('?c=0');
    expect(buildQuery({})).toBe('');
  });
});
