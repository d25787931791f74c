import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentRecord, ExecutionRecord, ExecutionSpecInput } from '#libs/contracts';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { BelayModule, ExecutionManager, LifecycleService } from '../../apps/embedded/src/nest';
import { eventually } from '../support/wait';

/** The examples of docs/recovery.md, each killed in the middle, and continued. */
const EXAMPLES = join(__dirname, '../../examples');
const FILE = join(EXAMPLES, 'recovery.module.cjs');
const { RecoveryModule } = jest.requireActual<{ RecoveryModule: Type }>(FILE);
const AT_ONCE = { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 0 } as const;

let server: ThrowawayServer;
let outside: Outside;
let dir: string;
let app: INestApplicationContext;
beforeAll(async () => {
  server = await startThrowawayServer();
  outside = await startOutside();
  process.env['MODEL_URL'] = process.env['SHOP_URL'] = outside.url;
  dir = mkdtempSync(join(tmpdir(), 'belay-recovery-'));
  const handlers = { module: FILE, export: 'RecoveryModule', env: ['MODEL_URL', 'SHOP_URL'] };
  const belay = BelayModule.forRoot({
    url: server.url,
    dataDir: join(dir, 'data'),
    workDir: dir,
    graceMs: 300,
    stopTimeoutMs: 300,
    handlers,
  });
  app = await (await Test.createTestingModule({ imports: [belay, RecoveryModule] }).compile()).init();
});
afterAll(async () => {
  await app.close();
  await outside.stop();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
  delete process.env['MODEL_URL'];
  delete process.env['SHOP_URL'];
});
beforeEach(() => outside.reset());

/** The world outside: a paid model, files, and a shop. It counts its requests, and can keep an answer back. */
interface Outside {
  readonly url: string;
  /** `METHOD /path` or the name of a model's question → the number of requests. */
  readonly asked: Map<string, number>;
  /** Its answer is kept back, once, until the request is gone. */
  hold: string | undefined;
  /** The shop refuses this act. */
  refuses: string | undefined;
  reset(): void;
  stop(): Promise<void>;
}

const USD_PER_ANSWER = 0.1;

async function startOutside(): Promise<Outside> {
  const asked = new Map<string, number>();
  const files = new Map<string, string>();
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(request);
    const path = request.url ?? '';
    const question =
      path === '/model' ? (JSON.parse(body) as { name: string }).name : `${request.method} ${path}`;
    asked.set(question, (asked.get(question) ?? 0) + 1);
    if (world.hold === question) {
      world.hold = undefined;
      return;
    }
    const say = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    };
    if (path === '/model')
      say(200, { text: question === 'plan' ? 'a\nb\nc' : `${question}.`, usd: USD_PER_ANSWER });
    else if (path.startsWith('/files/')) {
      if (request.method === 'POST') files.set(path, body);
      const text = files.get(path);
      say(text === undefined ? 404 : 200, text ?? null);
    } else say(world.refuses !== undefined && path.startsWith(`/${world.refuses}/`) ? 409 : 200, 'no van');
  };
  const http: Server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => void http.listen(0, '127.0.0.1', resolve));
  const world: Outside = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    asked,
    hold: undefined,
    refuses: undefined,
    reset() {
      asked.clear();
      files.clear();
      world.hold = world.refuses = undefined;
    },
    async stop() {
      http.closeAllConnections();
      await new Promise((resolve) => void http.close(resolve));
    },
  };
  return world;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += String(chunk);
  return text;
}

async function submit(spec: ExecutionSpecInput): Promise<string> {
  return (await app.get(ExecutionManager).submit(spec)).execution.id;
}

async function endOf(id: string): Promise<ExecutionRecord> {
  return eventually(async () => {
    const record = await app.get(LifecycleService).executions.get(id);
    return ['completed', 'failed', 'stopped'].includes(record.state) && record;
  }, `the end of ${id}`);
}

const resultOf = async (id: string, nodeId: string): Promise<unknown> =>
  (await app.get(LifecycleService).executions.node(id, nodeId)).result;

async function running(executionId: string, is: (agent: AgentRecord) => boolean): Promise<AgentRecord> {
  const { agents } = app.get(LifecycleService);
  return eventually(async () => {
    const [listed] = await agents.list({ executionId, states: ['running'] });
    const agent = listed && (await agents.get(listed.id));
    return agent !== undefined && is(agent) && agent;
  }, 'an agent that runs');
}

/** Kills like the kernel when memory runs out. */
function kill({ pid }: AgentRecord): void {
  process.kill(pid ?? Number.NaN, 'SIGKILL');
}

describe('R28 R38 R40 the agent loop', () => {
  it('is stopped by its budget in the middle, goes on from its last step, and writes each file once', async () => {
    // The answer to `act 1` is beyond the budget. The next question is not answered: the stop finds the agent in it.
    outside.hold = 'check 1';
    const nodes = [{ id: 'agent', run: { handler: 'agent-loop' }, input: { goal: 'tea' }, maxAttempts: 1 }];
    const id = await submit({ name: 'agent', nodes, maxCostUsd: 3.5 * USD_PER_ANSWER });
    const stopped = await endOf(id);
    expect(stopped).toMatchObject({ state: 'stopped', reason: 'budget_exceeded' });
    expect(stopped.costUsd).toBeCloseTo(4 * USD_PER_ANSWER);
    expect(outside.asked.has('act 2')).toBe(false);

    const manager = app.get(ExecutionManager);
    await expect(manager.retry(id, { actor: 'me', maxCostUsd: 0.1 })).rejects.toMatchObject({
      code: 'BUDGET_SPENT',
    });
    await manager.retry(id, { actor: 'me', maxCostUsd: 5 });
    const ended = await endOf(id);
    expect(ended).toMatchObject({ state: 'completed', epoch: 2 });
    expect(await resultOf(id, 'agent')).toEqual({ verdicts: ['check 0.', 'check 1.', 'check 2.'] });
    const writes = [0, 1, 2].map((turn) => outside.asked.get(`POST /files/${turn}`));
    expect(writes).toEqual([1, 1, 1]);
    // A stored answer is not requested again; one that never came is.
    const questions = [...outside.asked].filter(([name]) => !name.includes('/'));
    const turns = [0, 1, 2].flatMap((turn) => [`act ${turn}`, `check ${turn}`]);
    expect(Object.fromEntries(questions)).toEqual({
      ...Object.fromEntries(['plan', ...turns].map((name) => [name, 1])),
      'check 1': 2,
    });
    expect(ended.costUsd).toBeCloseTo(7 * USD_PER_ANSWER);
  });

  it('looks whether it wrote a file, where its process died before that was stored', async () => {
    outside.hold = 'POST /files/1';
    const nodes = [
      {
        id: 'agent',
        run: { handler: 'agent-loop' },
        input: { goal: 'tea' },
        maxAttempts: 2,
        backoff: AT_ONCE,
      },
    ];
    const id = await submit({ name: 'agent', nodes });
    await eventually(async () => outside.asked.has('POST /files/1'), 'the write');
    kill(await running(id, () => true));
    expect(await endOf(id)).toMatchObject({ state: 'completed' });
    // The first request was never answered and left nothing behind: the check shows that, and the write is done.
    expect(outside.asked.get('GET /files/1')).toBe(1);
    expect(outside.asked.get('POST /files/1')).toBe(2);
    expect(outside.asked.get('plan')).toBe(1);
  });
});

it('R28 the pipeline goes on from its checkpoint and publishes one whole report', async () => {
  const id = await submit({
    name: 'pipeline',
    nodes: [
      {
        id: 'transform',
        run: { handler: 'transform' },
        input: { rows: [1, 2, 3, 4, 5, 6] },
        maxAttempts: 2,
        backoff: AT_ONCE,
      },
      { id: 'publish', dependsOn: ['transform'], run: { handler: 'publish' }, input: { directory: dir } },
    ],
  });
  const atThree = await running(id, ({ checkpoint }) => Number((checkpoint as { next?: number })?.next) >= 3);
  kill(atThree);
  expect(await endOf(id)).toMatchObject({ state: 'completed' });
  const { resumedFrom, sum } = (await resultOf(id, 'transform')) as { resumedFrom: number; sum: number };
  expect(resumedFrom).toBeGreaterThanOrEqual(3);
  expect(sum).toBe(21);
  expect(JSON.parse(readFileSync(join(dir, 'report.json'), 'utf8'))).toEqual({ sum: 21 });
  expect(readdirSync(dir).filter((name) => name.startsWith('report.'))).toEqual(['report.json']);
});

describe('R28 the saga', () => {
  const purchase = async (order: string): Promise<string> =>
    submit({
      name: 'purchase',
      nodes: [
        { id: 'buy', run: { handler: 'purchase' }, input: { order }, maxAttempts: 2, backoff: AT_ONCE },
      ],
    });

  it('undoes the done acts when an act is refused, each once, although its process dies in between', async () => {
    outside.refuses = 'ship';
    outside.hold = 'POST /undo-pay/o1';
    const id = await purchase('o1');
    await eventually(async () => outside.asked.has('POST /undo-pay/o1'), 'the first to be undone');
    kill(await running(id, () => true));
    expect(await endOf(id)).toMatchObject({ state: 'completed' });
    expect(await resultOf(id, 'buy')).toEqual({ state: 'undone', because: '"no van"' });
    expect(Object.fromEntries(outside.asked)).toEqual({
      'POST /reserve/o1': 1,
      'POST /pay/o1': 1,
      'POST /ship/o1': 1,
      // Never answered the first time: the same request, with the same key, again.
      'POST /undo-pay/o1': 2,
      'POST /undo-reserve/o1': 1,
    });
  });

  it('ends shipped where nothing is refused', async () => {
    const id = await purchase('o2');
    await endOf(id);
    expect(await resultOf(id, 'buy')).toEqual({ state: 'shipped' });
    expect([...outside.asked.values()]).toEqual([1, 1, 1]);
  });
});

it.each(['agent-loop', 'pipeline', 'saga'])(
  'docs/recovery.md has examples/%s.cjs as it runs here',
  (name) => {
    const page = readFileSync(join(EXAMPLES, '../docs/recovery.md'), 'utf8');
    expect(page).toContain(`\`\`\`js\n${readFileSync(join(EXAMPLES, `${name}.cjs`), 'utf8')}\`\`\``);
  },
);
