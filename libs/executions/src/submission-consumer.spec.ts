import { BelayError, InvalidSpecError, OutcomeUnknownError } from '#libs/contracts';
import type { JobVerdict, ProducedJob, ProducersQueue } from '#libs/dispatch';
import type { ExecutionFollower } from './execution-follower';
import type { ExecutionManager } from './execution-manager';
import { SubmissionConsumer } from './submission-consumer';

/** The verdict for a job whose submit ends with that fault. */
async function verdictOf(fault: unknown, report = async (): Promise<void> => undefined): Promise<JobVerdict> {
  let take: ((job: ProducedJob) => Promise<JobVerdict>) | undefined;
  const queue = { consume: (taker: typeof take) => (take = taker) } as unknown as ProducersQueue;
  const manager = { submit: async () => Promise.reject(fault) } as unknown as ExecutionManager;
  const follower = { start: () => undefined } as unknown as ExecutionFollower;
  new SubmissionConsumer(queue, manager, follower).start();
  if (take === undefined) throw new Error('It consumes nothing.');
  const facts = { id: '1', name: 'execution', opts: {}, timestamp: 1, attemptsMade: 0 };
  return take({ key: 'k', data: {}, taken: 0, facts, report });
}

describe('R70 a job whose submit fails', () => {
  it.each([
    ['a lost connection', new Error('Connection is closed.')],
    ['a server that loads', new Error('LOADING Valkey is loading the dataset in memory')],
    ['an unknown outcome', new OutcomeUnknownError('script commitExecution', new Error('read ECONNRESET'))],
    ['a server that is away', new BelayError('SERVER_UNREACHABLE', 'It does not answer.')],
    ['a latch', new BelayError('LATCHED', 'A latch holds it.')],
  ])('waits after a temporary refusal: %s', async (_what, fault) => {
    expect(await verdictOf(fault)).toMatchObject({ waitMs: expect.any(Number) as number });
  });

  it('waits for a latch that it cannot tell of now', async () => {
    const report = async () =>
      Promise.reject(new Error("OOM command not allowed when used memory > 'maxmemory'."));
    const latched = new BelayError('LATCHED', 'A latch holds it.');
    expect(await verdictOf(latched, report)).toMatchObject({ waitMs: expect.any(Number) as number });
  });

  it('fails for good with every problem of its spec', async () => {
    const problems = [
      { path: 'name', code: 'REQUIRED', message: 'is missing.' },
      { path: 'nodes', code: 'REQUIRED', message: 'is missing.' },
    ];
    const verdict = await verdictOf(new InvalidSpecError(problems));
    expect(verdict).toMatchObject({
      failed: expect.stringMatching(/name: is missing[^]*nodes: is/) as string,
    });
  });

  it('leaves a job to the queue after a fault of Belay’s own', async () => {
    await expect(verdictOf(new TypeError('x is not a function'))).rejects.toThrow(TypeError);
  });
});
