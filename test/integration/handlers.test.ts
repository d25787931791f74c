import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentRecord, NodeSpec } from '#libs/contracts';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AgentHandler,
  Approvals,
  BelayModule,
  BelayRuntime,
  ExecutionManager,
  KillswitchService,
  LifecycleService,
  type BelayModuleOptions,
} from '../../apps/embedded/src/nest';
import { processesWith } from '../support/fleet';
import { eventually } from '../support/wait';

/** An application with handlers: each attempt is a process of its own that is an agent like any other. */
const FILE = join(__dirname, '../fixtures/handlers/jobs.module.cjs');
const { JobsModule } = jest.requireActual<{ JobsModule: Type }>(FILE);

let server: ThrowawayServer;
let dir: string;
let app: INestApplicationContext;
let applications = 0;
const optionsOf = (more: Partial<BelayModuleOptions> = {}): BelayModuleOptions => {
  const name = `handlers${applications++}`;
  const dataDir = join(dir, name);
  return {
    url: server.url,
    keyPrefix: name,
    queuePrefix: name,
    dataDir,
    workDir: dir,
    graceMs: 1_000,
    stopTimeoutMs: 300,
    handlers: { module: FILE, export: 'JobsModule', env: ['STEPS_RECORD'] },
    ...more,
  };
};
const make = async (
  options: BelayModuleOptions,
  module: Type = JobsModule,
): Promise<INestApplicationContext> => {
  const made = await Test.createTestingModule({ imports: [BelayModule.forRoot(options), module] }).compile();
  return made.init();
};

beforeAll(async () => {
  server = await startThrowawayServer();
  dir = mkdtempSync(join(tmpdir(), 'belay-handlers-'));
  app = await make(optionsOf());
});
afterAll(async () => {
  await app.close();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

type Draft = Partial<Omit<NodeSpec, 'run'>>;
async function submit(handler: string, draft: Draft = {}): Promise<string> {
  const { execution } = await app.get(ExecutionManager).submit({
    name: handler,
    nodes: [{ id: 'only', maxAttempts: 1, run: { handler }, ...draft }],
  });
  return execution.id;
}

async function endOf(executionId: string): Promise<{ state: string; agents: AgentRecord[] }> {
  const { executions, agents } = app.get(LifecycleService);
  const state = await eventually(async () => {
    const record = await executions.get(executionId);
    return ['completed', 'failed', 'stopped'].includes(record.state) && record.state;
  }, `the end of ${executionId}`);
  const listed = await agents.list({ executionId });
  const whole = await Promise.all(listed.map(async ({ id }) => agents.get(id)));
  return { state, agents: whole.sort((a, b) => a.attempt - b.attempt) };
}

const resultOf = async (executionId: string): Promise<unknown> =>
  (await app.get(LifecycleService).executions.node(executionId, 'only')).result;

async function until(executionId: string, progress: string): Promise<AgentRecord> {
  const { agents } = app.get(LifecycleService);
  return eventually(async () => {
    const [agent] = await agents.list({ executionId, states: ['running'] });
    const record = agent && (await agents.get(agent.id));
    return record?.progress === progress && record;
  }, `progress ${progress}`);
}

describe('R69 a handler', () => {
  it('runs in a process of its own with the application’s providers, and reports as an agent', async () => {
    const { execution } = await app.get(ExecutionManager).submit({
      name: 'shop',
      nodes: [
        { id: 'before', run: { command: ['sh', '-c', `echo '{"type":"result","value":[1]}' >&3`] } },
        { id: 'only', dependsOn: ['before'], run: { handler: 'sum' }, input: { items: ['tea', 'cake'] } },
      ],
    });
    const { state, agents } = await endOf(execution.id);
    expect(state).toBe('completed');
    expect(await resultOf(execution.id)).toEqual({
      total: 7,
      attempt: 1,
      upstream: { before: [1] },
      nodeId: 'only',
    });
    const agent = agents.find(({ nodeId }) => nodeId === 'only');
    expect(agent).toMatchObject({
      state: 'completed',
      costUsd: 0.25,
      costEstimated: true,
      tokens: 1_200,
      progress: { done: 0 },
      checkpoint: { last: 'cake' },
      report: { proved: true },
    });
    expect(agent?.pid).not.toBe(process.pid);
  });

  it('has a process that loads nothing of Belay’s that it does not use', async () => {
    const id = await submit('tells-loaded');
    expect((await endOf(id)).state).toBe('completed');
    const loaded = await resultOf(id);
    expect(loaded).toEqual(expect.arrayContaining(['@nestjs/core', 'reflect-metadata']));
    for (const name of [
      'bullmq',
      'ioredis',
      'fastify',
      '@nestjs/platform-fastify',
      'pino',
      'koffi',
      'prom-client',
    ])
      expect(loaded).not.toContain(name);
  });

  it('R28 goes on from its checkpoint, and is given the events of the attempts before', async () => {
    const id = await submit('goes-on', {
      maxAttempts: 2,
      backoff: { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 0 },
    });
    expect((await endOf(id)).state).toBe('completed');
    expect(await resultOf(id)).toEqual({ attempt: 2, lastCheckpoint: { page: 7 }, events: ['page'] });
  });

  describe('R28 has steps, which are done once for all attempts:', () => {
    const again = { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 0 } as const;
    const record = (name: string): string => (process.env['STEPS_RECORD'] = join(dir, name));
    const done = (path: string): string[] => readFileSync(path, 'utf8').trim().split('\n');
    afterAll(() => delete process.env['STEPS_RECORD']);

    it('one whose process died runs again where it may, and one that is done does not', async () => {
      const path = record('idempotent');
      const id = await submit('steps', { maxAttempts: 3, backoff: again, input: { idempotent: true } });
      expect((await endOf(id)).state).toBe('completed');
      expect(await resultOf(id)).toEqual({ order: { id: 7 }, paid: 'paid', attempt: 3 });
      expect(done(path)).toEqual(['order 1', 'pay 2', 'pay 3']);
    });

    it('one that is not idempotent is not run again: the node fails, and asks for a decision', async () => {
      const path = record('undecided');
      const id = await submit('steps', { maxAttempts: 9, backoff: again, input: { idempotent: false } });
      const { agents } = await endOf(id);
      expect(agents.at(-1)).toMatchObject({
        attempt: 3,
        error: { code: 'STEP_UNDECIDED', message: expect.stringContaining(`${agents[1]?.id} was executing`) },
      });
      expect(done(path)).toEqual(['order 1', 'pay 2']);
    });

    it('the handler may decide by looking whether it happened', async () => {
      const path = record('decides');
      const input = { idempotent: false, decides: true };
      const id = await submit('steps', { maxAttempts: 3, backoff: again, input });
      expect((await endOf(id)).state).toBe('completed');
      expect(await resultOf(id)).toMatchObject({ paid: 'looked up' });
      expect(done(path)).toEqual(['order 1', 'pay 2']);
    });
  });

  it('R23 suspends its node until a signal comes, and is given it in another process', async () => {
    const id = await submit('parks', { input: { maxAgeMs: 60_000 } });
    const { executions } = app.get(LifecycleService);
    await eventually(
      async () => (await executions.node(id, 'only')).state === 'suspended',
      'a suspended node',
    );
    const payload = { invoice: 77 };
    const signalled = await app.get(ExecutionManager).signal(id, { name: 'paid', payload, by: 'bank' });
    expect(signalled).toMatchObject({ woken: ['only'] });
    expect((await endOf(id)).state).toBe('completed');
    expect(await resultOf(id)).toEqual({ attempt: 2, wokenBy: { name: 'paid', payload } });
  });

  describe('asks people:', () => {
    const asked = async (id: string) =>
      eventually(async () => (await app.get(Approvals).list({ executionId: id })).items[0], 'a question');

    it('the answer is the person’s, with the reason, and its worker goes on with the rest', async () => {
      const detail = { invoice: 'x'.repeat(10_000) };
      const id = await submit('asks', { input: { detail } });
      const question = await asked(id);
      expect(question).toMatchObject({ question: 'Pay?', choices: ['pay', 'hold'], detail, state: 'open' });
      const answer = { choice: 'hold', hash: question.hash, reason: 'not today', by: 'ann' };
      await app.get(Approvals).answer(question.id, answer);
      expect((await endOf(id)).state).toBe('completed');
      expect(await resultOf(id)).toEqual({ answer: 'hold', by: 'ann', reason: 'not today', after: 1 });
    });

    it('nobody answers in time, and the answer is denied', async () => {
      const id = await submit('asks', { input: { timeoutMs: 500 } });
      expect((await endOf(id)).state).toBe('completed');
      expect(await resultOf(id)).toEqual({ answer: 'denied', by: 'belay', after: 1 });
    });

    it('bad input is refused with its fault, and nobody is asked', async () => {
      const id = await submit('asks-badly', { input: { question: '', choices: ['denied'] } });
      expect((await endOf(id)).state).toBe('completed');
      expect(await resultOf(id)).toEqual({
        code: 'INVALID_REQUEST',
        message: expect.stringMatching(/^The request is not valid: question: .* \(and 1 more\)$/),
      });
      const circle = await endOf(await submit('asks-circle'));
      expect(circle.agents[0]).toMatchObject({ error: { code: 'ASK_NOT_JSON' } });
      expect((await app.get(Approvals).list({ executionId: id })).items).toEqual([]);
    });
  });

  it('R16 hears of a stop by its signal, and ends within the grace', async () => {
    const id = await submit('listens');
    const { id: agentId } = await until(id, 'ready');
    const order = await app
      .get(KillswitchService)
      .placeOrder({ scope: { type: 'agent', agentId }, by: 'test' });
    const receipt = await app.get(KillswitchService).waitForReceipt(order.id);
    expect(receipt).toMatchObject({ complete: true, totals: { killed: 1 } });
    const agent = await app.get(LifecycleService).agents.get(agentId);
    expect(agent).toMatchObject({ state: 'killed', progress: 'aborted', report: { escalated: false } });
  });

  it('that never yields is killed with proof', async () => {
    const id = await submit('never-yields');
    const { id: agentId } = await until(id, 'busy');
    const order = await app
      .get(KillswitchService)
      .placeOrder({ scope: { type: 'agent', agentId }, by: 'test' });
    const receipt = await app.get(KillswitchService).waitForReceipt(order.id);
    expect(receipt).toMatchObject({ complete: true, totals: { killed: 1 } });
    expect(receipt.targets[0]?.report).toMatchObject({ proved: true, escalated: true });
    expect(processesWith(id)).toEqual([]);
  });
});

describe('a handler that goes wrong fails its node with a stable code:', () => {
  it.each([
    { handler: 'sum', code: 'INPUT_MISMATCH', message: /^Its input: items: /, input: { items: 3 } },
    { handler: 'wrong-result', code: 'RESULT_MISMATCH', message: /^Its result: total: / },
    { handler: 'large-result', code: 'RESULT_TOO_LARGE', message: /is 307202 bytes, larger than 262144/ },
    { handler: 'circular-result', code: 'RESULT_NOT_JSON', message: /as JSON: Converting circular/ },
    { handler: 'circular-event', code: 'EVENT_NOT_JSON', message: /as JSON: Converting circular/ },
    { handler: 'deep-result', code: 'RESULT_NOT_JSON', message: /nested too deep/ },
    { handler: 'large-step', code: 'STEP_TOO_LARGE', message: /the step large is larger than 262144/ },
    { handler: 'circular-step', code: 'STEP_NOT_JSON', message: /no JSON: Converting circular/ },
    { handler: 'throws-text', code: 'HANDLER_FAILED', message: /^threw 'plain words'$/ },
    { handler: 'throws-undefined', code: 'HANDLER_FAILED', message: /^threw undefined$/ },
    { handler: 'throws-error', code: 'HANDLER_FAILED', message: /^no such price$/ },
    { handler: 'throws-for-good', code: 'UNRECOVERABLE', message: /^never$/ },
    { handler: 'rejects-unhandled', code: 'HANDLER_CRASHED', message: /^nobody listens$/ },
    { handler: 'throws-later', code: 'HANDLER_CRASHED', message: /^out of nowhere$/ },
    { handler: 'exits-0', code: 'HANDLER_EXITED', message: /ended before the handler did/ },
    { handler: 'exits-7', code: 'HANDLER_EXITED', message: /ended before the handler did/ },
    { handler: 'never-settles', code: 'HANDLER_EXITED', message: /ended before the handler did/ },
  ])(
    '$handler: $code',
    async ({ handler, code, message, input }) => {
      const id = await submit(handler, { input });
      const { state, agents } = await endOf(id);
      expect(state).toBe('failed');
      expect(agents).toHaveLength(1);
      expect(agents[0]).toMatchObject({
        state: 'failed',
        error: { code, message: expect.stringMatching(message) },
      });
    },
    60_000,
  );

  it('one that no other attempt can mend is not tried again', async () => {
    const id = await submit('throws-for-good', { maxAttempts: 3 });
    expect((await endOf(id)).agents).toHaveLength(1);
  });

  it('an unknown handler is refused when it is submitted, with the name that is near', async () => {
    await expect(submit('sun')).rejects.toMatchObject({
      code: 'INVALID_SPEC',
      problems: [
        {
          path: 'nodes[0].run.handler',
          code: 'UNKNOWN_HANDLER',
          message: 'no running worker of the pool default has a handler sun; did you mean sum?',
        },
      ],
    });
  });

  it('a handler that was unknown later fails its node, and is not tried again', async () => {
    const others = optionsOf();
    const submitter = await make({ ...others, worker: false });
    const { execution } = await submitter
      .get(ExecutionManager)
      .submit({ name: 'early', nodes: [{ id: 'only', run: { handler: 'nowhere' } }] });
    const runner = await make({ ...others, dataDir: join(dir, 'second') });
    const { executions, agents } = runner.get(LifecycleService);
    await eventually(
      async () => (await executions.get(execution.id)).state === 'failed',
      'the end of the unknown',
    );
    const [agent] = await agents.list({ executionId: execution.id });
    expect(agent).toMatchObject({ error: { code: 'UNKNOWN_HANDLER' }, attempt: 1 });
    await runner.close();
    await submitter.close();
  });
});

describe('the handlers of an application', () => {
  it('are told to the fleet by the worker’s record', async () => {
    const worker = await app.get(LifecycleService).workers.get(app.get(BelayRuntime).workerId ?? '');
    expect(worker.handlers).toEqual(expect.arrayContaining(['sum', 'listens']));
  });

  it('are refused at the start: two of one name, or none to start them with', async () => {
    @AgentHandler('twice')
    class One {
      run(): void {}
    }
    @AgentHandler('twice')
    class Two {
      run(): void {}
    }
    const { handlers, ...without } = optionsOf();
    const made = await Test.createTestingModule({
      imports: [BelayModule.forRoot(without)],
      providers: [One, Two],
    }).compile();
    await expect(made.init()).rejects.toMatchObject({
      code: 'INVALID_SETTINGS',
      problems: [{ code: 'DUPLICATE_HANDLER' }, { path: 'handlers', code: 'REQUIRED' }],
    });
    await made.close();
    const badly = BelayModule.forRoot(optionsOf({ handlers: { module: './jobs', export: '' } }));
    await expect(Test.createTestingModule({ imports: [badly] }).compile()).rejects.toMatchObject({
      code: 'INVALID_SETTINGS',
      problems: [{ path: 'handlers.module' }, { path: 'handlers.export' }],
    });
    expect(handlers).toBeDefined();
  });
});

it('the example of docs/handlers.md is examples/handlers.cjs, and runs', () => {
  const root = join(__dirname, '../..');
  const ran = spawnSync(process.execPath, [join(root, 'examples/handlers.cjs')], {
    env: { ...process.env, BELAY_VALKEY_URL: server.url },
    cwd: dir,
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect({ stdout: ran.stdout, status: ran.status }).toEqual({
    stdout: "{ state: 'completed', result: { total: 7 } }\n",
    status: 0,
  });
  const [page, example] = ['docs/handlers.md', 'examples/handlers.cjs'].map((path) =>
    readFileSync(join(root, path), 'utf8'),
  );
  expect(page).toContain(`\`\`\`js\n${example}\`\`\``);
});
