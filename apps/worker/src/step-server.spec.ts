import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { BelayError, STEPS_KEY_VARIABLE, STEPS_VARIABLE, type StepAnswer } from '#libs/contracts';
import type { Fence, StepAct, StepState } from '#libs/lifecycle';
import { StepServer } from './step-server';

const fence: Fence = { agentId: 'agt_1', owner: 'wrk_1', epoch: 3 };
let server: StepServer;
let asked: [Fence, string, StepAct][];
let store: () => Promise<StepState>;
let sockets: Socket[];

beforeEach(async () => {
  asked = [];
  sockets = [];
  store = async () => ({ state: 'begun' });
  server = await StepServer.listen({
    step: async (...act) => {
      asked.push(act);
      return store();
    },
  });
});
afterEach(() => {
  server.close();
  for (const socket of sockets) socket.destroy();
});

/** A handler's connection; an answer, or `closed` when the worker hung up. */
function client(name: string): (line: string) => Promise<StepAnswer | 'closed'> {
  const socket = connect(`\0${name}`);
  sockets.push(socket);
  const lines = createInterface({ input: socket });
  return async (line) => {
    socket.write(`${line}\n`);
    const closed = once(socket, 'close').then(() => 'closed' as const);
    return Promise.race([
      once(lines, 'line').then(([text]) => JSON.parse(text as string) as StepAnswer),
      closed,
    ]);
  };
}

describe('R28 the socket of a worker for steps', () => {
  it('stores a step with the fence of the attempt whose key it is, and answers then', async () => {
    const { [STEPS_VARIABLE]: name = '', [STEPS_KEY_VARIABLE]: key = '' } = server.admit(fence);
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
      const { [STEPS_VARIABLE]: name = '', [STEPS_KEY_VARIABLE]: key = '' } = server.admit(fence);
      expect(await client(name)(line)).toBe('closed');
      expect(await client(name)(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toMatchObject({
        n: 1,
      });
    },
  );

  it('holds 4 KiB at most for who has shown no key', async () => {
    const { [STEPS_VARIABLE]: name = '' } = server.admit(fence);
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
    const { [STEPS_VARIABLE]: name = '', [STEPS_KEY_VARIABLE]: key = '' } = server.admit(fence);
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
    const { [STEPS_VARIABLE]: name = '', [STEPS_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const ask = client(name);
    await ask(JSON.stringify({ n: 0, key, name: '' })); // as every connection it shows its key in a short line first
    const answer = await ask(JSON.stringify({ n: 1, key, act: 'begin', ...request }));
    expect(answer).toMatchObject({ n: 1, error: { code } });
    expect(asked).toEqual([]);
  });

  it('has at most 1,000 steps for one attempt', async () => {
    const { [STEPS_VARIABLE]: name = '', [STEPS_KEY_VARIABLE]: key = '' } = server.admit(fence);
    const ask = client(name);
    for (let i = 0; i < 1_000; i++) await ask(JSON.stringify({ n: i, key, name: `step ${i}`, act: 'begin' }));
    expect(await ask(JSON.stringify({ n: 0, key, name: 'one more', act: 'begin' }))).toMatchObject({
      error: { code: 'TOO_MANY_STEPS' },
    });
    expect(await ask(JSON.stringify({ n: 0, key, name: 'step 7', act: 'done' }))).toMatchObject({
      state: 'begun',
    });
  });

  it('says when a step could not be stored', async () => {
    const { [STEPS_VARIABLE]: name = '', [STEPS_KEY_VARIABLE]: key = '' } = server.admit(fence);
    store = async () => Promise.reject(new BelayError('STALE_EPOCH', 'Not any more.'));
    expect(await client(name)(JSON.stringify({ n: 1, key, name: 'a', act: 'begin' }))).toMatchObject({
      error: { code: 'STEP_NOT_STORED', message: 'The step a (begin) could not be stored: STALE_EPOCH.' },
    });
  });
});
