import { BelayError, InvalidSpecError, type ExecutionRecord } from '#libs/contracts';
import type { JobConsumer, JobVerdict, ProducedJob } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { validateSpec } from '#libs/contracts';
import { ExecutionLostError, type ExecutionFollower } from './execution-follower';
import type { ExecutionManager } from './execution-manager';
import { ProcessorConsumer } from './processor-consumer';

const ORDER = 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const facts = { id: '42', name: 'render', opts: { attempts: 3 }, timestamp: 5, attemptsMade: 0 };
const job: ProducedJob = { key: 'k', data: { team: 'data' }, taken: 0, facts, report: async () => undefined };

interface Rig {
  readonly submit?: (
    spec: object,
    options: { idempotencyKey: string },
  ) => Promise<{ execution: { id: string } }>;
  readonly end?: Partial<ExecutionRecord> | Error;
  readonly node?: object;
  readonly agent?: object;
}

/** The verdict on one job, and the spec that was submitted for it. */
async function take({ submit, end = {}, node = {}, agent = {} }: Rig, taken: ProducedJob = job) {
  let handle: ((job: ProducedJob) => Promise<JobVerdict>) | undefined;
  const submitted: { spec: object; key: string }[] = [];
  const followed: string[] = [];
  const consumer = { consume: (taker: typeof handle) => (handle = taker) } as unknown as JobConsumer;
  const manager = {
    submit: async (spec: object, options: { idempotencyKey: string }) => {
      submitted.push({ spec, key: options.idempotencyKey });
      return submit === undefined ? { execution: { id: 'exe_1' } } : submit(spec, options);
    },
  } as unknown as ExecutionManager;
  const follower = {
    follow: async (id: string) => {
      followed.push(id);
      if (end instanceof Error) throw end;
      return { id, state: 'failed', ...end };
    },
  } as unknown as ExecutionFollower;
  const lifecycle = {
    executions: { node: async () => ({ agentId: 'agt_1', ...node }) },
    agents: { get: async () => agent },
  } as unknown as LifecycleService;
  const options = { queue: 'reports', labels: () => ({ team: 'data' }) };
  new ProcessorConsumer(consumer, manager, follower, lifecycle, options).start();
  if (handle === undefined) throw new Error('It consumes nothing.');
  return { verdict: await handle(taken), submitted, followed };
}

describe('R78 a job that was taken', () => {
  it('is an execution of one node in the pool of its queue, with labels to kill it by', async () => {
    const { submitted } = await take({ end: { state: 'completed' }, node: { result: 7 } });
    expect(validateSpec(submitted[0]?.spec)).toMatchObject({
      name: 'reports/42',
      labels: { team: 'data', 'belay.queue': 'reports', 'belay.job': '42' },
      nodes: [
        {
          run: { handler: 'queue.reports' },
          pool: 'queue.reports',
          retryOn: 'lost',
          input: { ...facts, queue: 'reports', data: { team: 'data' } },
        },
      ],
    });
  });

  it('has one key for each attempt, however often it is taken up', async () => {
    const keyOf = async (more: Partial<ProducedJob>): Promise<string | undefined> =>
      (await take({}, { ...job, ...more })).submitted[0]?.key;
    const first = await keyOf({});
    expect(await keyOf({ taken: 3, data: 'changed' })).toBe(first);
    expect(await keyOf({ facts: { ...facts, attemptsMade: 1 } })).not.toBe(first);
    expect(await keyOf({ facts: { ...facts, timestamp: 6 } })).not.toBe(first);
  });

  it('joins the execution that is there when its data was changed meanwhile', async () => {
    const submit = async (): Promise<never> => {
      throw new BelayError('IDEMPOTENCY_CONFLICT', 'Another spec.', { details: { existing: 'exe_there' } });
    };
    const { followed, verdict } = await take({ submit, end: { state: 'completed' }, node: { result: 1 } });
    expect([followed, verdict]).toEqual([['exe_there'], { done: 1 }]);
  });

  it.each<[string, Rig, unknown]>([
    ['completes', { end: { state: 'completed' }, node: { result: { a: 1 } } }, { done: { a: 1 } }],
    ['completes without a result', { end: { state: 'completed' } }, { done: undefined }],
    ['was killed by its agent’s order', { agent: { orderId: ORDER } }, { failed: `KILLED ${ORDER}` }],
    [
      'was killed before it ran',
      { end: { state: 'stopped', orderId: ORDER } },
      { failed: `KILLED ${ORDER}` },
    ],
    [
      'was to be killed, and was not seen dead',
      { agent: { orderId: ORDER }, end: { state: 'failed', error: { code: 'UNCONFIRMED', message: 'x' } } },
      { failed: `UNCONFIRMED ${ORDER}: its processes may still run` },
    ],
    [
      'was to be stopped by a deadline, and was not seen dead',
      { end: { state: 'failed', reason: 'timeout', error: { code: 'UNCONFIRMED', message: 'x' } } },
      { failed: 'UNCONFIRMED timeout: its processes may still run' },
    ],
    [
      'was stopped by a deadline',
      { end: { state: 'stopped', reason: 'timeout' } },
      { failed: 'STOPPED timeout' },
    ],
    [
      'failed for good by its own word',
      { node: { error: { code: 'UNRECOVERABLE', message: 'never again' } } },
      { failed: 'never again' },
    ],
    [
      'failed',
      { node: { error: { code: 'HANDLER_FAILED', message: 'no room' } } },
      { error: expect.objectContaining({ message: 'no room', code: 'HANDLER_FAILED' }) },
    ],
    ['was lost with the server that knew it', { end: new ExecutionLostError('exe_1') }, waits()],
  ])('%s', async (_title, rig, expected) => {
    expect((await take(rig)).verdict).toEqual(expected);
  });

  it.each<[string, Error, unknown]>([
    ['a latch', new BelayError('LATCHED', 'A latch holds it.'), waits()],
    ['a server that is away', new BelayError('SERVER_UNREACHABLE', 'It is away.'), waits()],
    [
      'data that no spec can carry',
      new InvalidSpecError([{ path: 'nodes[0].input', code: 'TOO_DEEP', message: 'is too deep.' }]),
      { failed: expect.stringContaining('nodes[0].input: is too deep.') },
    ],
  ])('waits after a temporary refusal, and fails for good otherwise: %s', async (_title, fault, expected) => {
    expect((await take({ submit: async () => Promise.reject(fault) })).verdict).toEqual(expected);
  });

  it('leaves a fault of ours to the queue', async () => {
    const submit = async (): Promise<never> => Promise.reject(new TypeError('x is not a function'));
    await expect(take({ submit })).rejects.toThrow(TypeError);
  });
});

function waits(): { waitMs: unknown } {
  return { waitMs: expect.any(Number) };
}
