import { join, resolve } from 'node:path';
import { startFleet, type Fleet } from '../support/fleet';
import { OpenApiClient, type Described } from '../support/openapi-client';
import { ready, running } from '../support/executions';

const ASKS = join(resolve(__dirname, '../..'), 'test/fixtures/asks.cjs');
const ULID = '01HZZZZZZZZZZZZZZZZZZZZZZZ';

let fleet: Fleet;
let api: OpenApiClient;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1 });
  const [{ url = '' } = {}] = fleet.orchestrators;
  api = await OpenApiClient.of(url, fleet.token);
});
afterAll(async () => fleet.stop());

/** Calls an operation, and expects a success. */
async function done(...given: Parameters<OpenApiClient['call']>): ReturnType<OpenApiClient['call']> {
  const answer = await api.call(...given);
  if (answer.status >= 300) throw new Error(`${given[0]}: ${JSON.stringify(answer.body)}`);
  return answer;
}

describe('a client that knows the OpenAPI document alone', () => {
  it('creates an execution, follows it to its end, and reads everything about it', async () => {
    const key = { with: { 'Idempotency-Key': 'first' }, example: 'short' };
    const created = await done('createExecution', key);
    expect(created.status).toBe(201);
    expect((await done('createExecution', key)).status).toBe(200);
    const { frames } = await done('events');
    expect(frames.map(({ event }) => event)).toEqual(expect.arrayContaining(['ready', 'event', 'end']));
    const { body } = await done('execution');
    expect(body).toMatchObject({ id: created.body['id'], state: 'completed' });
    await done('nodes', { with: { state: ['completed', 'failed'], limit: 10_000 } });
    await done('node');
    const id = created.body['id'];
    expect((await done('agents', { with: { executionId: id, limit: 10_000 } })).body).toMatchObject({
      items: [{ executionId: id }],
    });
    await done('agent');
    expect((await done('logs')).body).toMatchObject({ lines: [{ line: 'hi' }], ended: true });
    const log = await done('logs', { with: { follow: '1' } });
    expect(log.frames.map(({ event }) => event)).toEqual(['log', 'end']);
    await done('executions', { with: { state: ['completed'], limit: 1_000 } });
    expect((await done('deleteExecution')).body).toEqual({ executionId: id, state: 'completed' });
  });

  it('starts, pauses, freezes, resumes, signals, stops and retries one', async () => {
    const created = await done('createExecution', {
      example: 'long',
      with: { start: 'false', queue: 'true' },
    });
    const id = created.body['id'] as string;
    await done('startExecution');
    await running(fleet.client, id, 1);
    await done('executions', { with: { label: ['team=data'], status: ['running'] } });
    await done('pauseExecution', { example: 'drain' });
    expect((await done('pauseExecution', { example: 'freeze' })).body).toMatchObject({
      receipt: { complete: true },
    });
    await done('resumeExecution');
    await done('signalExecution');
    expect((await done('stopExecution', { with: { wait: '0' } })).status).toBe(202);
    expect((await done('stopExecution')).body).toMatchObject({ status: 'stopped' });
    await done('retryExecution');
    await running(fleet.client, id, 1);
    await done('agents', { with: { executionId: id, state: ['running'] } });
    expect((await done('killAgent')).body).toMatchObject({ complete: true, totals: { killed: 1 } });
    await done('agent');
    await done('stopByBody', { change: { executionId: id } });
  });

  it('follows all executions, and kills by scope with a receipt', async () => {
    const { body } = await done('createAgent');
    const executionId = body['id'] as string;
    const { client } = fleet;
    await running(client, executionId, 1);
    const scope = { type: 'execution', executionId };
    const change = { scope, latch: false };
    expect((await done('kill', { with: { dryRun: '1' }, change })).body).toMatchObject({
      executions: [executionId],
    });
    let killed: Promise<unknown> | undefined;
    const { frames } = await done('allEvents', {
      with: { type: ['execution'], state: ['stopped'] },
      until: ({ event }) => {
        if (event === 'ready') killed = done('kill', { change });
        return event === 'event';
      },
    });
    await killed;
    expect(frames.at(-1)?.data).toMatchObject({ executionId, to: 'stopped' });
    expect((await done('kill', { with: { wait: '0' } })).status).toBe(202);
    await done('receipt', { with: { wait: '1' } });
    expect((await done('releaseOrder')).body).toMatchObject({ already: false });
    await done('closeOrder');
    await done('receipts', { with: { limit: 1_000, unproved: '0' } });
  });

  it('engages and releases latches, pauses queues, sets limits, makes tokens', async () => {
    await done('engageLatch');
    await done('latches');
    await done('latch');
    await done('releaseLatch');
    await done('queues');
    await done('queue');
    await done('pauseQueue');
    await done('resumeQueue');
    await done('removeFromQueue', { with: { dryRun: '1' } });
    await done('setLimits');
    await done('limits');
    await done('setLimits', { change: { limits: [] } });
    await done('createToken');
    await done('tokens');
    await done('revokeToken');
  });

  it('reads questions of agents and answers one', async () => {
    const { execution } = await fleet.client.createExecution({
      name: 'asks',
      nodes: [{ id: 'n', run: { command: [process.execPath, ASKS, '1', join(fleet.dir, 'book')] } }],
    });
    await ready(fleet.client, execution.id, 1);
    await done('asks', { with: { executionId: execution.id, limit: 1_000 } });
    const { body } = await done('ask');
    await done('answer', { change: { hash: body['hash'] } });
    expect((await done('ask')).body).toMatchObject({ state: 'answered', answer: 'yes' });
    await done('events', { until: ({ event }) => event === 'end' });
  });

  it('drills, and reads the state of the fleet, its audit log and its own description', async () => {
    expect((await done('drill')).body).toMatchObject({ passed: true });
    for (const id of ['drills', 'armed', 'workers', 'quarantine', 'verifyAudit', 'metrics']) await done(id);
    await done('workers', { with: { lost: '1' } });
    await done('audit', { with: { limit: 10_000 } });
    for (const id of ['root', 'health', 'live', 'ready', 'openapi', 'docs']) await done(id);
  });

  it('has walked every route', () => {
    const walked = new Set([...api.seen].map((seen) => seen.split(' ')[0]));
    expect(api.operations.map(({ operationId }) => operationId).filter((id) => !walked.has(id))).toEqual([]);
  });
});

/** Ids of nothing, in the documented form. */
function absentOf({ parameters }: Described): Record<string, string> {
  const ids = parameters
    .filter((one) => one.in === 'path' && one.example === undefined)
    .map(({ name, schema }) => {
      const kind = /^\^(\w+_)/.exec(schema['pattern'] as string)?.[1] ?? '';
      return [name, `${kind}${ULID}${kind === 'agt_' ? '-0-1' : kind === 'ask_' ? '-0-1-1' : ''}`] as const;
    });
  return Object.fromEntries(ids);
}

describe('R68 bad input gets an error that the document describes', () => {
  const status = async (id: string, bad: object, values = {}): Promise<number> =>
    (await api.call(id, { with: { ...absentOf(api.operation(id)), ...values }, bad })).status;

  it('an unknown query parameter, and no token', async () => {
    for (const operation of api.operations) {
      const { operationId: id, path, security } = operation;
      if (path.startsWith('/api/'))
        expect([id, await status(id, { query: 'nonsense=1' })]).toEqual([id, 400]);
      if (security.length > 0) expect([id, await status(id, { token: undefined })]).toEqual([id, 401]);
    }
  });

  it('a value beyond the bounds of a query parameter', async () => {
    let tried = 0;
    for (const { operationId: id, parameters, path } of api.operations) {
      for (const { name, in: place, schema } of parameters) {
        const {
          maximum,
          items,
          enum: words,
        } = schema as { maximum?: number; items?: { enum?: unknown }; enum?: unknown };
        if (place !== 'query' || (maximum ?? items?.enum ?? words) === undefined) continue;
        // Of nodes the id is looked up first, so another execution than none would be needed.
        const query = `${name}=${maximum === undefined ? 'nonsense' : maximum + 1}`;
        const isLookedUp = path === '/api/executions/{id}/nodes';
        expect([id, query, await status(id, { query })]).toEqual([id, query, isLookedUp ? 404 : 400]);
        tried += 1;
      }
    }
    expect(tried).toBeGreaterThan(20);
  });

  it('a body with an unknown field, that is not JSON, not application/json, or too large', async () => {
    for (const { operationId: id, requestBody, path } of api.operations) {
      if (requestBody === undefined) continue;
      expect([id, await status(id, { body: '{"nonsense":true}' })]).toEqual([id, 400]);
      expect([id, await status(id, { body: '{' })]).toEqual([id, 400]);
      expect([id, await status(id, { body: '{}', type: 'text/plain' })]).toEqual([id, 415]);
      const most = /^\/api\/(executions|agents)$/.test(path) ? 8 * 1024 : 64;
      const large = JSON.stringify({ note: 'x'.repeat(most * 1024) });
      expect([id, await status(id, { body: large })]).toEqual([id, 413]);
    }
  });

  it('an id of nothing', async () => {
    for (const operation of api.operations) {
      const { operationId: id } = operation;
      if (Object.keys(absentOf(operation)).length === 0) continue;
      expect([id, (await api.call(id, { with: absentOf(operation) })).status]).toEqual([id, 404]);
    }
  });

  it('a state that does not allow it', async () => {
    const { execution } = await fleet.client.createExecution(
      { name: 'idle', nodes: [{ id: 'a', run: { command: ['true'] } }] },
      { start: false },
    );
    const values = { with: { id: execution.id } };
    for (const id of ['pauseExecution', 'resumeExecution', 'retryExecution', 'deleteExecution'])
      expect([id, (await api.call(id, values)).status]).toEqual([id, 409]);
  });
});
