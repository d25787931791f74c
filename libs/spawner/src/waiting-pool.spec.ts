import type { AgentProcess, AssignRequest, ProcessHost, SpawnRequest, WaitingProcess } from './process';
import { WaitingPool } from './waiting-pool';

/** Takes the place of a process: the test decides when it waits and when it ends. */
class FakeWaiting implements WaitingProcess {
  readonly identity = { pid: 1, startTime: '1', bootId: 'b' };
  isReady: () => void = () => undefined;
  isOver: () => void = () => undefined;
  readonly ready = new Promise<void>((resolve) => (this.isReady = resolve));
  readonly ended = new Promise<void>((resolve) => (this.isOver = resolve));
  isEnded = false;

  async end(): Promise<void> {
    this.isEnded = true;
    this.isOver();
  }
}

const COMMAND = ['node', 'main.js'];
let started: FakeWaiting[];
let assigned: AssignRequest[];
let start: () => Promise<WaitingProcess>;
let answer: AgentProcess | undefined;
let env: Record<string, string>;
let host: ProcessHost;
let errors: unknown[];
let pool: WaitingPool;

const makePool = (count: number): WaitingPool =>
  new WaitingPool(
    host,
    { command: COMMAND, env: () => ({ ...env }), count },
    {
      workDir: '/',
      onError: (error) => errors.push(error),
    },
  );
const request = (more: Partial<SpawnRequest> = {}): SpawnRequest => ({
  agentId: 'agt_1',
  command: [...COMMAND, 'sum'],
  shell: false,
  env: { BELAY_AGENT_ID: 'agt_1' },
  stdin: '{}',
  graceMs: 1,
  onOutput: () => undefined,
  onMessage: () => undefined,
  ...more,
});
/** Runs everything that is due now, with its consequences. */
const settle = async (ms = 0): Promise<void> => jest.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  jest.useFakeTimers();
  started = [];
  assigned = [];
  errors = [];
  env = { A: '1' };
  answer = { agentId: 'agt_1' } as AgentProcess;
  start = async () => {
    const made = new FakeWaiting();
    started.push(made);
    return made;
  };
  host = {
    isolation: 'same-user',
    startWaiting: async () => start(),
    assign: (_: WaitingProcess, asked: AssignRequest) => {
      assigned.push(asked);
      return answer;
    },
  } as unknown as ProcessHost;
  pool = makePool(2);
});
afterEach(async () => {
  await pool.close();
  jest.useRealTimers();
});

/** Opens the pool, and lets every process report that it waits. */
async function filled(): Promise<void> {
  pool.open();
  await settle();
  for (const each of started) each.isReady();
  await settle();
}

it('has as many as were asked for, gives each to one attempt, and starts another in its place', async () => {
  await filled();
  expect([started.length, pool.ready]).toEqual([2, 2]);
  expect(pool.take(request())).toBe(answer);
  expect(assigned[0]).toMatchObject({ agentId: 'agt_1', args: ['sum'], stdin: '{}' });
  expect(pool.ready).toBe(1);
  await settle();
  expect(started).toHaveLength(3);
  expect(started.some(({ isEnded }) => isEnded)).toBe(false);
});

it('gives no attempt a process that did not report that it waits', async () => {
  pool.open();
  await settle();
  expect(pool.take(request())).toBeUndefined();
  expect(assigned).toEqual([]);
});

it.each<{ what: string; more: Partial<SpawnRequest> }>([
  { what: 'is no handler', more: { command: ['true'] } },
  { what: 'is a line for a shell', more: { shell: true } },
  { what: 'has limits, which are set before a process starts', more: { limits: { memoryMb: 1 } } },
  { what: 'has an input too large for memory', more: { stdin: {} as never } },
])('leaves an attempt that $what to a process of its own', async ({ more }) => {
  await filled();
  expect(pool.take(request(more))).toBeUndefined();
  expect(assigned).toEqual([]);
});

it('passes over a process that died before its end was reported', async () => {
  await filled();
  answer = undefined;
  expect(pool.take(request())).toBeUndefined();
  expect(assigned).toHaveLength(2);
  expect(pool.ready).toBe(0);
});

it('R8 lets the refusal of an attempt through, and keeps the process', async () => {
  await filled();
  host.assign = () => {
    throw new Error('too late');
  };
  expect(() => pool.take(request())).toThrow('too late');
  expect(pool.ready).toBe(2);
});

it('ends those that were started with other variables than the application has now', async () => {
  await filled();
  env = { A: '2' };
  expect(pool.take(request())).toBeUndefined();
  await settle();
  expect(started.map(({ isEnded }) => isEnded)).toEqual([true, true, false, false]);
});

it('starts those that end by themselves ever more rarely, and at the old pace after an attempt', async () => {
  pool = makePool(1);
  pool.open();
  await settle();
  const due: number[] = [];
  for (let i = 0; i < 8; i++) {
    const { length } = started;
    started.at(-1)?.isOver();
    let waited = 0;
    for (; started.length === length; waited += 500) await settle(500);
    due.push(waited);
  }
  expect(due).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  started.at(-1)?.isReady();
  await settle();
  pool.take(request());
  await settle();
  started.at(-1)?.isOver();
  await settle(1_000);
  expect(started).toHaveLength(11);
});

it('tells of a start that fails, and tries again after a pause', async () => {
  start = async () => {
    throw new Error('no more processes');
  };
  pool.open();
  await settle(999);
  expect(errors).toHaveLength(2);
  await settle(1);
  expect(errors).toHaveLength(4);
});

it('ends one that does not wait within 30 s, and one that has waited for ten minutes', async () => {
  pool = makePool(1);
  pool.open();
  await settle(29_999);
  expect(started[0]?.isEnded).toBe(false);
  await settle(1_001);
  expect([started[0]?.isEnded, started.length]).toEqual([true, 2]);
  started[1]?.isReady();
  await settle(599_000);
  expect(started[1]?.isEnded).toBe(false);
  await settle(1_000);
  await settle(1);
  expect([started[1]?.isEnded, started.length]).toEqual([true, 3]);
});

it('ends all when it is closed, one that is just being started too, and starts no more', async () => {
  let arrive: (made: WaitingProcess) => void = () => undefined;
  await filled();
  start = async () => new Promise((resolve) => (arrive = resolve));
  pool.take(request());
  await settle();
  const closed = pool.close();
  const late = new FakeWaiting();
  arrive(late);
  await closed;
  await settle(120_000);
  expect([late.isEnded, started[1]?.isEnded, started.length]).toEqual([true, true, 2]);
  expect(pool.take(request())).toBeUndefined();
});

it('has none with isolation user, or where no handler is declared', async () => {
  host = { ...host, isolation: 'user' };
  pool = makePool(2);
  pool.open();
  const none = new WaitingPool(host, undefined, { workDir: '/' });
  none.open();
  await settle(60_000);
  expect(started).toEqual([]);
  expect(none.take(request())).toBeUndefined();
});
