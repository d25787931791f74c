import { OutcomeUnknownError, type AgentMessage } from '#libs/contracts';
import type { AgentSaid, Fence } from '#libs/lifecycle';
import { AgentReporter } from './agent-reporter';

const FENCE: Fence = { agentId: 'agt_1', owner: 'wrk_1', epoch: 1 };

/** A reporter and its calls. After `fail` the next call ends like one whose answer was lost. */
function reporter(): {
  sent: AgentSaid[];
  errors: unknown[];
  take: (...messages: (AgentMessage & { bytes?: number })[]) => void;
  close: () => Promise<void>;
  one: AgentReporter;
  fail: () => void;
} {
  const sent: AgentSaid[] = [];
  const errors: unknown[] = [];
  let fails = 0;
  const report = async (_fence: Fence, said: AgentSaid) => {
    sent.push(said);
    if (fails-- > 0) throw new OutcomeUnknownError('script reportAgent', new Error('read ECONNRESET'));
    return { overBudget: false };
  };
  const one = new AgentReporter({ report }, FENCE, (error) => errors.push(error));
  const take = (...messages: (AgentMessage & { bytes?: number })[]) => {
    for (const { bytes = 100, ...message } of messages) one.take(message, bytes);
  };
  return { sent, errors, take, close: async () => one.close(), one, fail: () => (fails = 1) };
}

const event = (name: string): AgentMessage => ({ type: 'event', name });
const namesOf = (sent: readonly AgentSaid[]) =>
  sent.map(({ events = [] }) => events.map((one) => ('name' in one ? one.name : one.dropped)));

describe('the messages of an agent', () => {
  beforeEach(() => jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] }));
  afterEach(() => jest.useRealTimers());
  const pass = async (ms: number) => jest.advanceTimersByTimeAsync(ms);

  it('is gathered: the last progress and checkpoint, all events, the sums of costs and tokens', async () => {
    const { take, sent } = reporter();
    take({ type: 'cost', usd: 1 }, { type: 'cost', usd: 2 }, event('a'), event('b'));
    take(
      { type: 'tokens', count: 5 },
      { type: 'cost', usd: 0, estimated: true },
      { type: 'tokens', count: 7 },
    );
    take({ type: 'progress', value: 1 }, { type: 'progress', value: 2 }, { type: 'checkpoint', value: null });
    await pass(100);
    expect(sent).toMatchObject([
      { costUsd: 3, costEstimated: true, tokens: 12, progress: 2, checkpoint: null },
    ]);
    expect(namesOf(sent)).toEqual([['a', 'b']]);
    await pass(10_000);
    expect(sent).toHaveLength(1);
  });

  it('does not wait for a large checkpoint before it; a second one does, and the newest is sent', async () => {
    const { take, sent } = reporter();
    const checkpoint = (value: number) => ({ type: 'checkpoint', value, bytes: 256 * 1024 }) as const;
    take(checkpoint(1));
    await pass(100);
    take(checkpoint(2), { type: 'cost', usd: 1 });
    await pass(1_000);
    take(checkpoint(3));
    await pass(1_000);
    expect(sent.map((said) => [said.costUsd, said.checkpoint])).toEqual([
      [undefined, 1],
      [1, undefined],
    ]);
    await pass(3_000);
    expect(sent.at(-1)).toMatchObject({ checkpoint: 3 });
    expect(sent).toHaveLength(3);
  });

  it('is sent whole at the end, whatever the pace', async () => {
    const { take, sent, close } = reporter();
    take({ type: 'checkpoint', value: 1, bytes: 256 * 1024 });
    await pass(100);
    take({ type: 'checkpoint', value: 2 }, ...Array.from({ length: 250 }, (_, i) => event(`e${i}`)));
    await close();
    expect(sent.map(({ checkpoint }) => checkpoint)).toEqual([1, 2, undefined, undefined]);
    expect(namesOf(sent).map((names) => names.length)).toEqual([0, 100, 100, 50]);
  });

  it('is said again when the answer was lost, with the same numbers', async () => {
    const { take, sent, errors, fail } = reporter();
    fail();
    take(event('a'), { type: 'progress', value: 1 });
    await pass(100);
    take(event('b'));
    await pass(100);
    expect(errors).toHaveLength(1);
    expect(namesOf(sent)).toEqual([['a'], ['a', 'b']]);
    expect(sent[1]).toMatchObject({ progress: 1, events: [{ n: 1 }, { n: 2 }] });
  });

  it('is dropped beyond its bounds, counted, and told when it begins and at the end', async () => {
    const { take, sent, close } = reporter();
    take({ type: 'progress', value: 1, bytes: 16 * 1024 + 1 });
    take({ type: 'checkpoint', value: 1, bytes: 256 * 1024 + 1 });
    await pass(100);
    take(...Array.from({ length: 1_500 }, (_, i) => event(`e${i}`)));
    await pass(3_000);
    await close();
    const told = sent.flatMap(({ events = [] }) => events).filter((one) => 'dropped' in one);
    const events = sent.flatMap(({ events: some = [] }) => some).length - told.length;
    expect(events).toBeGreaterThanOrEqual(1_000);
    expect(told).toMatchObject([
      { dropped: { progress: 1 } },
      { dropped: { progress: 1, checkpoints: 1, events: 1_500 - events } },
    ]);
    expect(sent.at(-1)?.dropped).toEqual({ progress: 1, checkpoints: 1, events: 1_500 - events });
  });

  it('is an event with its size alone where its data is too long', async () => {
    const { one, sent } = reporter();
    one.take({ type: 'event', name: 'big', data: 'x'.repeat(20_000) }, 20_040);
    one.take({ type: 'event', name: 'spaced', data: 1 }, 20_040);
    await pass(100);
    expect(sent[0]?.events).toEqual([
      { n: 1, name: 'big', data: { cutBytes: 20_002 } },
      { n: 2, name: 'spaced', data: 1 },
    ]);
  });

  it('that the store refuses for good is given up', async () => {
    const errors: unknown[] = [];
    const report = async () => Promise.reject(new Error('STALE_EPOCH'));
    const one = new AgentReporter({ report }, FENCE, (error) => errors.push(error));
    one.take(event('a'), 10);
    one.countBadLine();
    await pass(100);
    await pass(10_000);
    expect(errors).toHaveLength(1);
  });
});
