import { join, resolve } from 'node:path';
import { startFleet, type Fleet } from '../support/fleet';
import { OpenApiClient, type Described } from '../support/openapi-client';
import { ready, running } from '../support/executions';
import { writeWebhooks } from '../support/receiver';

const ASKS = join(resolve(__dirname, '../..'), 'test/fixtures/asks.cjs');
const ULID = '01HZZZZZZZZZZZZZZZZZZZZZZZ';

let fleet: Fleet;
let api: OpenApiClient;
const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
// No process listens there.
const webhooks = writeWebhooks([{ name: 'pager', url: 'http://127.0.0.1:9/', secret, events: ['*'] }]);
beforeAll(async () => {
  fleet = await startFleet({ workers: 1, env: { BELAY_WEBHOOKS_FILE: webhooks.file } });
  const [{ url = '' } = {}] = fleet.orchestrators;
  api = await OpenApiClient.of(url, fleet.token);
});
afterAll(async () => {
  await fleet.stop();
  webhooks.remove();
});

/** Calls an operation, and expects a success. */
async function expectDone(...given: Parameters<OpenApiClient['call']>): ReturnType<OpenApiClient['call']> {
  const answer = await api.call(...given);
  if (answer.status >= 300) throw new Error(`${given[0]}: ${JSON.stringify(answer.body)}`);
  return answer;
}

describe('a client that knows the OpenAPI document alone', () => {
  it('creates an execution, follows it to its end, and reads everything about it', async () => {
    const key = { with: { 'Idempotency-Key': 'first' }, example: 'short' };
    const created = await expectDone('createExecution', key);
    expect(created.status).toBe(201);
    expect((await expectDone('createExecution', key)).status).toBe(200);
    const { frames } = await expectDone('events');
    expect(frames.map(({ event }) => event)).toEqual(expect.arrayContaining(['ready', 'event', 'end']));
    const { body } = await expectDone('execution');
    expect(body).toMatchObject({ id: created.body['id'], state: 'completed' });
    await expectDone('nodes', { with: { state: ['completed', 'failed'], limit: 10_000 } });
    await expectDone('node');
    const id = created.body['id'] as string;
    expect((await expectDone('agents', { with: { executionId: id, limit: 10_000 } })).body).toMatchObject({
      items: [{ executionId: id }],
    });
    await expectDone('agent');
    expect((await expectDone('logs')).body).toMatchObject({ lines: [{ line: 'hi' }], ended: true });
    const log = await expectDone('logs', { with: { follow: '1' } });
    expect(log.frames.map(({ event }) => event)).toEqual(['log', 'end']);
    await expectDone('executions', { with: { state: ['completed'], limit: 1_000 } });
    expect((await expectDone('deleteExecution')).body).toEqual({ executionId: id, state: 'completed' });
  });

  it('starts, pauses, freezes, resumes, signals, stops and retries one', async () => {
    const created = await expectDone('createExecution', {
      example: 'long',
      with: { start: 'false', queue: 'true' },
    });
    const id = created.body['id'] as string;
    await expectDone('startExecution');
    await running(fleet.client, id, 1);
    await expectDone('executions', { with: { label: ['team=data'], status: ['running'] } });
    await expectDone('pauseExecution', { example: 'drain' });
    expect((await expectDone('pauseExecution', { example: 'freeze' })).body).toMatchObject({
      receipt: { complete: true },
    });
    await expectDone('resumeExecution');
    await expectDone('signalExecution');
    expect((await expectDone('stopExecution', { with: { wait: '0' } })).status).toBe(202);
    expect((await expectDone('stopExecution')).body).toMatchObject({ status: 'stopped' });
    await expectDone('retryExecution');
    await running(fleet.client, id, 1);
    await expectDone('agents', { with: { executionId: id, state: ['running'] } });
    expect((await expectDone('killAgent')).body).toMatchObject({ complete: true, totals: { killed: 1 } });
    await expectDone('agent');
    await expectDone('stopByBody', { change: { executionId: id } });
  });

  it('follows all executions, and kills by scope with a receipt', async () => {
    const { body } = await expectDone('createAgent');
    const executionId = body['id'] as string;
    const { client } = fleet;
    await running(client, executionId, 1);
    const scope = { type: 'execution', executionId };
    const change = { scope, latch: false };
    expect((await expectDone('kill', { with: { dryRun: '1' }, change })).body).toMatchObject({
      executions: [executionId],
    });
    let killed: Promise<unknown> | undefined;
    const { frames } = await expectDone('allEvents', {
      with: { type: ['execution'], state: ['stopped'] },
      until: ({ event }) => {
        if (event === 'ready') killed = expectDone('kill', { change });
        return event === 'event';
      },
    });
    await killed;
    expect(frames.at(-1)?.data).toMatchObject({ executionId, to: 'stopped' });
    expect((await expectDone('kill', { with: { wait: '0' } })).status).toBe(202);
    await expectDone('receipt', { with: { wait: '1' } });
    expect((await expectDone('releaseOrder')).body).toMatchObject({ already: false });
    await expectDone('closeOrder');
    await expectDone('receipts', { with: { limit: 1_000, unproved: '0' } });
  });

  it('engages and releases latches, pauses queues, sets limits, makes tokens', async () => {
    await expectDone('engageLatch');
    await expectDone('latches');
    await expectDone('latch');
    await expectDone('releaseLatch');
    await expectDone('queues');
    await expectDone('queue');
    await expectDone('pauseQueue');
    await expectDone('resumeQueue');
    await expectDone('removeFromQueue', { with: { dryRun: '1' } });
    await expectDone('setLimits');
    await expectDone('limits');
    await expectDone('setLimits', { change: { limits: [] } });
    await expectDone('webhooks');
    await expectDone('webhookDeliveries');
    await expectDone('createToken');
    await expectDone('tokens');
    await expectDone('revokeToken');
  });

  it('reads questions of agents and answers one', async () => {
    const { execution } = await fleet.client.createExecution({
      name: 'asks',
      nodes: [{ id: 'n', run: { command: [process.execPath, ASKS, '1', join(fleet.dir, 'book')] } }],
    });
    await ready(fleet.client, execution.id, 1);
    await expectDone('asks', { with: { executionId: execution.id, limit: 1_000 } });
    const { body } = await expectDone('ask');
    await expectDone('answer', { change: { hash: body['hash'] } });
    expect((await expectDone('ask')).body).toMatchObject({ state: 'answered', answer: 'yes' });
    await expectDone('events', { until: ({ event }) => event === 'end' });
  });

  it('drills, and reads the state of the fleet, its audit log and its own description', async () => {
    expect((await expectDone('drill')).body).toMatchObject({ passed: true });
    for (const id of ['drills', 'armed', 'workers', 'quarantine', 'verifyAudit', 'metrics'])
      await expectDone(id);
    await expectDone('workers', { with: { lost: '1' } });
    await expectDone('audit', { with: { limit: 10_000 } });
    for (const id of ['root', 'health', 'live', 'ready', 'openapi', 'docs']) await expectDone(id);
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
    const answers: (readonly [string, number])[] = [];
    const expected: (readonly [string, number])[] = [];
    for (const { operationId: id, path, security } of api.operations) {
      if (path.startsWith('/api/')) {
        answers.push([id, await status(id, { query: 'nonsense=1' })]);
        expected.push([id, 400]);
      }
      if (security.length > 0) {
        answers.push([id, await status(id, { token: undefined })]);
        expected.push([id, 401]);
      }
    }
    expect(answers).toEqual(expected);
    expect(answers.length).toBeGreaterThan(100);
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
