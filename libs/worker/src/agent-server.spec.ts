import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import {
  BelayError,
  OutcomeUnknownError,
  SOCKET_KEY_VARIABLE,
  SOCKET_VARIABLE,
  type CheckedAsk,
  type QuestionAnswer,
  type QuestionRecord,
  type StepAnswer,
} from '#libs/contracts';
import type { Fence, StepAct, StepState } from '#libs/lifecycle';
import { AgentServer } from './agent-server';

const ULID = '01HZXW3V9K8Q2M4N6P7R5S0T1A';
const fence: Fence = { agentId: `agt_${ULID}-0-1`, owner: 'wrk_1', epoch: 3 };
let server: AgentServer;
let asked: [Fence, string, StepAct][];
let store: () => Promise<StepState>;
let questions: [Fence, number, CheckedAsk][];
let storeQuestion: (n: number) => Promise<QuestionRecord>;
let look: (ids: readonly string[]) => Promise<QuestionRecord[]>;
let sockets: Socket[];

beforeEach(async () => {
  asked = [];
  sockets = [];
  store = async () => ({ state: 'begun' });
  questions = [];
  storeQuestion = async (n) => questionOf(n);
  look = async () => [];
  server = new AgentServer({
    agents: {
      step: async (...act) => {
        asked.push(act);
        return store();
      },
    },
    questions: {
      ask: async (...ask) => {
        questions.push(ask);
        return storeQuestion(ask[1]);
      },
      many: async (ids) => look(ids),
    },
  });
  await server.listen();
});
afterEach(() => {
  server.close();
  for (const socket of sockets) socket.destroy();
});

const questionOf = (n: number, more: Partial<QuestionRecord> = {}): QuestionRecord =>
  ({ id: `ask_${ULID}-0-1-${n}`, state: 'open', question: 'Deploy?', ...more }) as QuestionRecord;

/** A handler's connection: the answer, or `closed` when the worker hung up. */
function client(name: string): (line: string) => Promise<(StepAnswer & QuestionAnswer) | 'closed'> {
  const socket = connect(`\0${name}`);
  sockets.push(socket);
  const lines = createInterface({ input: socket });
  return async (line) => {
    socket.write(`${line}\n`);
    const closed = once(socket, 'close').then(() => 'closed' as const);
    return Promise.race([
      once(lines, 'line').then(([text]) => JSON.parse(text as string) as StepAnswer & QuestionAnswer),
      closed,
    ]);
  };
}

describe('R28 the socket of a worker for steps', () => {
  it('stores a step with the fence of the attempt whose key it is, and answers then', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const ask = client(name);
    const begin = { n: 1, key, name: 'pay', act: 'begin', isIdempotent: false };
    expect(await ask(JSON.stringify(begin))).toEqual({ n: 1, state: 'begun' });
    store = async () => ({ state: 'done', result: 7 });
    expect(await ask(JSON.stringify({ n: 2, key, name: 'pay', act: 'done', result: 7 }))).toEqual({
      n: 2,
      state: 'done',
      result: 7,
    });
    expect(asked).toEqual([
      [fence, 'pay', { act: 'begin', isIdempotent: false }],
      [fence, 'pay', { act: 'done', result: 7 }],
    ]);
  });

  it.each(['{', 'null', '7', '[]', '{"key":"another"}', '{"key":{}}'])(
    'hangs up on %s, and goes on',
    async (line) => {
      const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
      expect(await client(name)(line)).toBe('closed');
      expect(await client(name)(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toMatchObject({
        n: 1,
      });
    },
  );

  it('reads at most 4 KiB from a connection that has shown no key', async () => {
    const { [SOCKET_VARIABLE]: name = '' } = server.admit(fence);
    const socket = connect(`\0${name}`);
    sockets.push(socket);
    socket.write('x'.repeat(4_096));
    await once(socket, 'connect');
    expect(socket.destroyed).toBe(false);
    socket.write('x');
    await once(socket, 'close');
    expect(asked).toEqual([]);
  });

  it('refuses an attempt that has ended', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    server.forget(fence.agentId);
    expect(await client(name)(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toBe('closed');
    expect(asked).toEqual([]);
  });

  it.each([
    ['a name that is none', { name: '' }, 'STEP_NAME'],
    ['a name of another kind', { name: 7 }, 'STEP_NAME'],
    ['a long name', { name: 'x'.repeat(129) }, 'STEP_NAME'],
    ['a large result', { name: 'a', act: 'done', result: 'x'.repeat(300_000) }, 'STEP_TOO_LARGE'],
  ])('answers %s with a code', async (_title, request, code) => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const ask = client(name);
    await ask(JSON.stringify({ n: 0, key, name: '' })); // like every connection, it shows its key in a short line first
    const answer = await ask(JSON.stringify({ n: 1, key, act: 'begin', ...request }));
    expect(answer).toMatchObject({ n: 1, error: { code } });
    expect(asked).toEqual([]);
  });

  it('has at most 1,000 steps for one attempt', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const ask = client(name);
    for (let i = 0; i < 1_000; i++) await ask(JSON.stringify({ n: i, key, name: `step ${i}`, act: 'begin' }));
    expect(await ask(JSON.stringify({ n: 0, key, name: 'one more', act: 'begin' }))).toMatchObject({
      error: { code: 'TOO_MANY_STEPS' },
    });
    expect(await ask(JSON.stringify({ n: 0, key, name: 'step 7', act: 'done' }))).toMatchObject({
      state: 'begun',
    });
  });

  it('waits for an agent that reads no answer, and asks the store nothing more for it meanwhile', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    store = async () => ({ state: 'done', result: 'x'.repeat(250_000) });
    const deaf = connect(`\0${name}`);
    sockets.push(deaf);
    for (let n = 0; n < 200; n++) deaf.write(`${JSON.stringify({ n, key, name: 'deaf', act: 'begin' })}\n`);
    const ask = client(name);
    for (let n = 0; n < 100; n++) await ask(JSON.stringify({ n, key, name: 'reader', act: 'begin' }));
    const ofDeaf = (): number => asked.filter(([, step]) => step === 'deaf').length;
    expect(ofDeaf()).toBeGreaterThan(0);
    expect(ofDeaf()).toBeLessThan(20);
    // Once it reads, it gets each answer.
    let answers = 0;
    for await (const line of createInterface({ input: deaf })) {
      expect((JSON.parse(line) as StepAnswer).n).toBe(answers++);
      if (answers === 200) break;
    }
    expect(ofDeaf()).toBe(200);
  });

  it('reads no further line of a connection while it stores a step', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    let stored = (): void => undefined;
    const held = new Promise<void>((resolve) => (stored = resolve));
    store = async () => held.then(() => ({ state: 'begun' }));
    const sender = connect(`\0${name}`);
    sockets.push(sender);
    sender.write(`${JSON.stringify({ n: 0, key, name: 'slow', act: 'begin' })}\n`);
    const large = `${JSON.stringify({ n: 1, key, act: 'hello', more: 'x'.repeat(500_000) })}\n`;
    let taken = 0;
    for (let i = 0; i < 64; i++) sender.write(large, () => taken++);
    const ask = client(name);
    for (let n = 0; n < 1_000; n++) await ask(JSON.stringify({ n, key, act: 'hello' }));
    expect(taken).toBeLessThan(3);
    stored();
    let answers = 0;
    for await (const _ of createInterface({ input: sender })) if (++answers === 65) break;
    expect(taken).toBe(64);
  });

  it('takes a line in pieces of any size, and ends it at the newline alone', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const result = 'one\u2028two\u2029three \u00e4\u{1f600}';
    store = async () => ({ state: 'done', result });
    const socket = connect(`\0${name}`);
    sockets.push(socket);
    const lines = createInterface({ input: socket });
    const line = Buffer.from(`${JSON.stringify({ n: 1, key, name: 'a', act: 'done', result })}\n`);
    for (const byte of line) await new Promise((resolve) => socket.write(Buffer.of(byte), resolve));
    const [text] = await once(lines, 'line');
    expect(JSON.parse(text as string)).toEqual({ n: 1, state: 'done', result });
    expect(asked).toEqual([[fence, 'a', { act: 'done', result }]]);
  });

  it('says when a step could not be stored', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    store = async () => Promise.reject(new BelayError('STALE_EPOCH', 'Not any more.'));
    expect(await client(name)(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toMatchObject({
      error: { code: 'STEP_NOT_STORED', message: 'The step a (begin) could not be stored: STALE_EPOCH.' },
    });
    const oom = new Error("OOM command not allowed when used memory > 'maxmemory'.");
    for (const [cause, code] of [
      [oom, 'SERVER_FULL'],
      [new Error('LOADING the data'), 'STEP_NOT_STORED'],
    ] as const) {
      store = async () => Promise.reject(new OutcomeUnknownError('script saveStep', cause));
      expect(await client(name)(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toMatchObject({
        error: { code },
      });
    }
  });
});

describe('connections of strangers', () => {
  /**
   * Connections that send nothing; the end of each. `known` gives the worker time to accept each one, since the kernel holds no
   * more than 511 for it.
   */
  async function silent(
    name: string,
    count: number,
    known: () => Promise<unknown>,
  ): Promise<Promise<unknown>[]> {
    const ends: Promise<unknown>[] = [];
    while (ends.length < count) {
      const socket = connect(`\0${name}`);
      sockets.push(socket);
      ends.push(once(socket, 'close'));
      await once(socket, 'connect');
      await known();
    }
    return ends;
  }
  const left = (): number => sockets.filter(({ destroyed }) => !destroyed).length;
  const hello = (key: string): string => JSON.stringify({ n: 1, key, act: 'hello' });

  it('keep no place from an agent: of 500 silent ones the oldest go, and 64 stay', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const known = client(name);
    expect(await known(hello(key))).toEqual({ n: 1 });
    const ends = await silent(name, 500, async () => known(hello(key)));
    const late = client(name);
    expect(await late(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toMatchObject({
      state: 'begun',
    });
    await Promise.all(ends.slice(0, 436));
    for (const ask of [known, late]) expect(await ask(hello(key))).toEqual({ n: 1 });
    // Until its key came, the late agent was a stranger as well: one of the 64 may have gone for it.
    expect([63 + 2, 64 + 2]).toContain(left());
  });

  it('are at most 1,000 at any moment, however young they are', async () => {
    const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const clock = jest.spyOn(performance, 'now').mockReturnValue(0);
    try {
      const known = client(name);
      const ends = await silent(name, 1_100, async () => known(hello(key)));
      await Promise.all(ends.slice(0, 100));
      expect(left()).toBe(1_000 + 1);
      // The connection of an agent takes the place of the oldest one.
      expect(await client(name)(hello(key))).toEqual({ n: 1 });
      await ends[100];
      expect(left()).toBe(999 + 2);
    } finally {
      clock.mockRestore();
    }
  });

  it('have a bound apart from that of the agents', async () => {
    const small = new AgentServer(
      { agents: { step: async () => store() }, questions: { ask: async () => storeQuestion(1), many: look } },
      { most: 2 },
    );
    await small.listen();
    try {
      const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = small.admit(fence);
      const asks = [client(name), client(name)] as const;
      void (await silent(name, 50, async () => asks[0](hello(key))));
      for (const ask of asks) expect(await ask(hello(key))).toEqual({ n: 1 });
      expect(await client(name)(hello(key))).toBe('closed');
      for (const ask of asks) expect(await ask(hello(key))).toEqual({ n: 1 });
    } finally {
      small.close();
    }
  });
});

describe('the socket of a worker for questions', () => {
  const ask = { question: 'Deploy?' };
  let name: string;
  let key: string;
  beforeEach(() => ({ [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = server.admit(fence)));
  const line = (request: object): string => JSON.stringify({ key, ...request });

  it('stores a question with the fence of the attempt whose key it is, each with a number of its own', async () => {
    const send = client(name);
    expect(await send(line({ n: 4, act: 'ask', ask }))).toEqual({ n: 4, question: questionOf(1) });
    expect(await send(line({ n: 5, act: 'ask', ask: { ...ask, key: 'k' } }))).toMatchObject({ n: 5 });
    expect(questions).toEqual([
      [fence, 1, { ...ask, choices: ['yes', 'no'], timeoutMs: 3_600_000 }],
      [fence, 2, { ...ask, choices: ['yes', 'no'], timeoutMs: 3_600_000, key: 'k' }],
    ]);
  });

  it('accepts a long question from a connection that has shown a key', async () => {
    const send = client(name);
    expect(await send(line({ n: 1, act: 'hello' }))).toEqual({ n: 1 });
    const long = { ...ask, detail: 'x'.repeat(10_000) };
    expect(await send(line({ n: 2, act: 'ask', ask: long }))).toMatchObject({ n: 2, question: {} });
  });

  it('answers bad input with every problem, and stores nothing', async () => {
    const bad = { question: '', choices: ['denied'], timeoutMs: 1 };
    expect(await client(name)(line({ n: 1, act: 'ask', ask: bad }))).toMatchObject({
      n: 1,
      error: { code: 'INVALID_REQUEST' },
      problems: [{ path: 'question' }, { path: 'timeoutMs' }, { path: 'choices[0]' }],
    });
    expect(await client(name)(line({ n: 1, act: 'ask' }))).toMatchObject({
      error: { code: 'INVALID_REQUEST' },
    });
    expect(questions).toEqual([]);
  });

  it('says when a question could not be stored', async () => {
    storeQuestion = async () => Promise.reject(new BelayError('STALE_EPOCH', 'Not any more.'));
    expect(await client(name)(line({ n: 1, act: 'ask', ask }))).toMatchObject({
      error: { code: 'ASK_NOT_STORED', message: 'The question could not be stored: STALE_EPOCH.' },
    });
    storeQuestion = async () => Promise.reject(new BelayError('TOO_MANY_QUESTIONS', 'Enough.'));
    expect(await client(name)(line({ n: 1, act: 'ask', ask }))).toMatchObject({
      error: { code: 'TOO_MANY_QUESTIONS', message: 'Enough.' },
    });
  });

  it('tells the answer to all that wait for it, and steps go on meanwhile', async () => {
    let state: QuestionRecord['state'] = 'open';
    look = async (ids) => [questionOf(1, ids.length === 1 ? { state } : {})];
    const { id } = questionOf(1);
    const sends = [client(name), client(name)];
    const waits = sends.map(async (send) => send(line({ n: 9, act: 'await', id })));
    const third = client(name);
    expect(await third(line({ n: 1, name: 'a', act: 'begin' }))).toMatchObject({ n: 1, state: 'begun' });
    state = 'answered';
    for (const wait of waits) expect(await wait).toMatchObject({ n: 9, question: { id, state: 'answered' } });
  });

  it('tells a waiter that a question no longer exists, and looks again where a look fails', async () => {
    let looks = 0;
    look = async () => (looks++ < 2 ? Promise.reject(new Error('the server is away')) : []);
    expect(await client(name)(line({ n: 1, act: 'await', id: questionOf(1).id }))).toMatchObject({
      error: { code: 'NOT_FOUND', message: 'The question no longer exists: treat it as denied.' },
    });
    expect(looks).toBe(3);
  });

  it('freezes a tree from before the wait until its end, where the question asks for it', async () => {
    const held: string[] = [];
    const errors: unknown[] = [];
    const strict = new AgentServer(
      {
        agents: { step: async () => store() },
        questions: { ask: async () => storeQuestion(1), many: async (ids) => look(ids) },
      },
      {
        hold: async (agentId, hold, isFrozen) => {
          held.push(`${agentId} ${hold} ${isFrozen}`);
          if (!isFrozen) throw new Error('it has ended');
        },
        onError: (error) => errors.push(error),
      },
    );
    await strict.listen();
    try {
      ({ [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = strict.admit(fence));
      const { id } = questionOf(1);
      look = async () => [
        questionOf(1, { whileWaiting: 'freeze', state: held.length === 0 ? 'open' : 'answered' }),
      ];
      const answer = await client(name)(line({ n: 1, act: 'await', id }));
      expect(answer).toMatchObject({ n: 1, question: { state: 'answered' } });
      expect(held).toEqual([`${fence.agentId} ${id} true`, `${fence.agentId} ${id} false`]);
      expect(errors).toEqual([new Error('it has ended')]);
    } finally {
      strict.close();
    }
  });

  it('lets an attempt wait for its own questions alone', async () => {
    look = async (ids) => ids.map((id) => questionOf(1, { id, state: 'answered' }));
    for (const id of ['ask_1', `ask_${ULID}-1-1-1`, 7])
      expect(await client(name)(line({ n: 1, act: 'await', id }))).toMatchObject({
        error: { code: 'NOT_FOUND' },
      });
  });

  it('gives an attempt no further answers while it reads none', async () => {
    let looks = 0;
    look = async (ids) => {
      looks += ids.length;
      return ids.map((id) => questionOf(1, { id, state: 'answered', detail: 'x'.repeat(16_000) }));
    };
    const { id } = questionOf(1);
    const deaf = Array.from({ length: 10 }, () => connect(`\0${name}`));
    sockets.push(...deaf);
    // Each wait is over at once, so without a bound on unread answers each could be followed by the next.
    for (let n = 0; n < 500; n++)
      for (const socket of deaf) socket.write(`${line({ n, act: 'await', id })}\n`);
    const hello = client(name);
    for (let n = 0; n < 1_000; n++) await hello(line({ n, act: 'hello' }));
    // Two looks a wait: 200 waits, and the answers that the kernel took for the ten connections.
    expect(looks).toBeGreaterThan(0);
    expect(looks).toBeLessThan(1_500);
    for (const socket of deaf) socket.destroy();
    await Promise.all(deaf.map(async (socket) => once(socket, 'close')));
    for (let n = 0; n < 100; n++) await hello(line({ n, act: 'hello' }));
    expect((await hello(line({ n: 7, act: 'await', id }))) as StepAnswer).toMatchObject({
      n: 7,
      question: {},
    });
  });

  it('answers no question: there is no such line', async () => {
    const { id } = questionOf(1);
    const given = await client(name)(line({ n: 1, act: 'answer', id, choice: 'yes' }));
    expect(given).toMatchObject({ error: { code: 'STEP_NAME' } });
    expect([questions, asked]).toEqual([[], []]);
  });

  it('stops waiting for an agent that has gone', async () => {
    let looked: (ids: readonly string[]) => void = () => undefined;
    const first = new Promise((resolve) => (looked = resolve));
    look = async (ids) => {
      looked(ids);
      return ids.map(() => questionOf(1));
    };
    const send = client(name);
    void send(line({ n: 1, act: 'await', id: questionOf(1).id }));
    await first;
    sockets[0]?.destroy();
    // Another agent's look is about its own question alone.
    const others = new Promise<readonly string[]>((resolve) => {
      look = async (ids) => {
        if (ids.length === 1 && ids[0] === questionOf(2).id) resolve(ids);
        return ids.map((_, i) => questionOf(i + 1));
      };
    });
    void client(name)(line({ n: 1, act: 'await', id: questionOf(2).id }));
    expect(await others).toEqual([questionOf(2).id]);
  });

  it('gives one attempt 200 connections at most', async () => {
    const hello = line({ n: 1, act: 'hello' });
    const all = await Promise.all(Array.from({ length: 200 }, async () => client(name)(hello)));
    expect(all.every((answer) => answer !== 'closed')).toBe(true);
    expect(await client(name)(hello)).toBe('closed');
    const other = { ...fence, agentId: `agt_${ULID}-1-1` };
    const { [SOCKET_KEY_VARIABLE]: otherKey = '' } = server.admit(other);
    expect(await client(name)(JSON.stringify({ n: 1, key: otherKey, act: 'hello' }))).toEqual({ n: 1 });
  });
});
