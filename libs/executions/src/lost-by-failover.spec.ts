import { AgentQueues, type JobVerdict, type ProducedJob, type ProducersQueue } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { ChangeFeed } from '#libs/valkey';
import { node, spec, useLife } from '../../../test/support/life';
import { until } from '../../../test/support/wait';
import { DagExecutor } from './dag-executor';
import { ExecutionFollower } from './execution-follower';
import { ExecutionManager } from './execution-manager';
import { SubmissionConsumer } from './submission-consumer';

let life: LifecycleService;
let queues: AgentQueues;
let manager: ExecutionManager;
useLife((rig) => ({ life } = rig));

beforeEach(async () => {
  await life.valkey.redis.flushall();
  queues = new AgentQueues(life, { prefix: 'bull' });
  manager = new ExecutionManager(life, new DagExecutor(life, queues));
});
afterEach(async () => queues.close());

const SPEC = spec([node('a')]);

/** Simulates a failover that loses the last writes: the next primary does not have the execution. */
async function forget(): Promise<void> {
  const { redis } = life.valkey;
  await redis.flushall();
  await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'no').catch(() => undefined);
}

it('R25 an execution that is lost before its submit is answered is stored again', async () => {
  const create = life.executions.create.bind(life.executions);
  let creations = 0;
  const spy = jest.spyOn(life.executions, 'create').mockImplementation(async (...args) => {
    const made = await create(...args);
    if (creations++ === 0) await life.valkey.redis.flushall();
    return made;
  });
  try {
    const { execution, created } = await manager.submit(SPEC);
    expect({ created, creations }).toEqual({ created: true, creations: 2 });
    expect(await life.executions.get(execution.id)).toMatchObject({ state: 'running' });
  } finally {
    spy.mockRestore();
  }
});

describe('a job whose execution is gone', () => {
  let feed: ChangeFeed;
  let follower: ExecutionFollower;
  let take: (job: ProducedJob) => Promise<JobVerdict>;

  beforeEach(async () => {
    feed = new ChangeFeed(life.valkey);
    await feed.start();
    const queue = { consume: (taker: typeof take) => (take = taker) } as unknown as ProducersQueue;
    follower = new ExecutionFollower(life, feed);
    new SubmissionConsumer(queue, manager, follower).start();
  });
  afterEach(() => {
    follower.stop();
    feed.stop();
  });

  async function known(): Promise<{ id: string; verdict: Promise<JobVerdict> }> {
    let id = '';
    const report = async (progress: object): Promise<void> => {
      ({ executionId: id } = progress as { executionId: string });
    };
    const facts = { id: '1', name: 'execution', opts: {}, timestamp: 1, attemptsMade: 0 };
    const verdict = take({ key: 'job-1', data: SPEC, taken: 0, facts, report });
    await until(() => id !== '', 'its progress');
    return { id, verdict };
  }

  it('R25 R70 is taken again when a failover lost it, and is another execution then', async () => {
    const { id, verdict } = await known();
    await forget();
    expect(await verdict).toEqual({ waitMs: expect.any(Number) });
    const again = await known();
    expect(again.id).not.toBe(id);
  });

  it('R70 fails when somebody removed it', async () => {
    const { verdict } = await known();
    await life.valkey.redis.flushall();
    expect(await verdict).toEqual({ failed: expect.stringContaining('NOT_FOUND') });
  });
});
