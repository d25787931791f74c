import type { NodeSpec } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import type { AgentOutcome, LifecycleService } from '#libs/lifecycle';
import { createExecution, node, spec, startNext, stopReport, useLife } from '../../../test/support/life';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';

let life: LifecycleService;
let queues: AgentQueues;
let ends: AttemptEnds;
useLife((rig) => ({ life } = rig));
beforeAll(() => {
  queues = new AgentQueues(life, { prefix: 'bull' });
  ends = new AttemptEnds(life, new DagExecutor(life, queues));
});
afterAll(async () => queues.close());

/** The end that a worker stores when it has lost contact with Valkey and ended its own agents. */
const FENCED: AgentOutcome = {
  state: 'failed',
  reason: 'worker_lost',
  error: { code: 'FENCED', message: 'Its worker lost contact.' },
  report: stopReport(),
};

/** The node after the first of three attempts ended so. */
async function after(outcome: AgentOutcome, recovery: NodeSpec['recovery']): Promise<object | undefined> {
  const one = node('a', { maxAttempts: 3, recovery });
  const id = await createExecution(life, spec([one]));
  const { fence } = await startNext(life, id);
  await ends.end(fence, outcome, one);
  return (await life.executions.nodes(id)).items[0];
}

describe('R29 an attempt that its own worker ended as lost', () => {
  it('is not tried again where the spec has recovery.auto off', async () => {
    expect(await after(FENCED, { auto: false })).toMatchObject({
      state: 'failed',
      attempt: 1,
      error: {
        code: 'RECOVERY_OFF',
        message: expect.stringContaining('Its worker lost contact; ') as string,
      },
    });
  });

  it('is tried again otherwise, as maxAttempts says', async () => {
    expect(await after(FENCED, { auto: true })).toMatchObject({ state: 'ready', attempt: 2 });
    expect(await after(FENCED, { auto: true, withinMs: 1 })).toMatchObject({ state: 'ready', attempt: 2 });
  });

  it('differs from one that failed by itself: recovery.auto is about lost attempts alone', async () => {
    const failed = { ...FENCED, reason: 'error', error: { code: 'EXIT', message: 'exit code 1' } } as const;
    expect(await after(failed, { auto: false })).toMatchObject({ state: 'ready', attempt: 2 });
  });
});
