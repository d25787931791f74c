import type { AgentJob, JobAnswer } from '#libs/contracts';
import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { Job, Queue, Worker } from 'bullmq';
import { ulid } from 'ulid';
import { Link } from '../../../test/faults/link';
import { eventually } from '../../../test/support/fleet';
import { AgentQueues } from './agent-queues';
import { JobConsumer, type JobVerdict } from './job-consumer';

const TAKEN = 'bull:belay-agents-side:active';
/** The calls that take a job, or end a job and take the next, and no others. */
const TAKES = /belay-agents-side:limiter/;

let server: ThrowawayServer;
let near: Valkey;
let producers: AgentQueues;
beforeAll(async () => {
  server = await startThrowawayServer();
  near = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
  producers = new AgentQueues(new LifecycleService(near, { retentionMs: 60_000 }), { prefix: 'bull' });
});
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
afterAll(async () => {
  await producers.close();
  near.close();
  await server.stop();
});

/** Adds a job. Resolves with its id. */
async function handOver(): Promise<string> {
  const id = ulid();
  const agentId = `agt_${id}-0-1`;
  const entry = { agentId, executionId: `exe_${id}`, nodeId: 'n', attempt: 1, pool: 'side', priority: 5 };
  await producers.dispatch([{ ...entry, delayMs: 0 }]);
  return agentId;
}

/**
 * A worker's consumer behind a link, and the jobs that it has taken. `isRefused`: its first connections are refused, until the
 * link heals.
 */
async function consume(
  handle: (agentId: string) => Promise<JobAnswer> = async () => 'done',
  { isRefused = false } = {},
) {
  const link = await Link.open({ path: server.socketPath ?? '' });
  const far = await new Valkey({ url: link.url, keyPrefix: 'belay', shards: 1 }).open();
  if (isRefused) link.refuse();
  const queues = new AgentQueues(new LifecycleService(far, { retentionMs: 60_000 }), { prefix: 'bull' });
  const taken: string[] = [];
  const stalled: string[] = [];
  const consumer = queues.consume('side', 1, async ({ agentId }: AgentJob) => {
    taken.push(agentId);
    return handle(agentId);
  });
  consumer.on('stalled', (id) => stalled.push(id));
  if (!isRefused) await consumer.waitUntilReady();
  closing.push(async () => {
    link.heal();
    await consumer.close();
    await queues.close();
    far.close();
    link.close();
  });
  return { link, taken, stalled };
}

const isTaken = async (id: string): Promise<boolean> =>
  (await near.redis.lrange(TAKEN, 0, '-1')).includes(id);

describe('R25 a job that was taken while the connection broke, the answer lost', () => {
  it('is run by the worker that took it, and not only once its lock has run out', async () => {
    const { link, taken, stalled } = await consume();
    const first = await handOver();
    await eventually(async () => taken.includes(first), 'the first job');
    link.loseAnswersFrom(TAKES);
    const lost = await handOver();
    await eventually(async () => isTaken(lost), 'the taking');
    link.cut();
    link.heal();
    await eventually(async () => taken.includes(lost), 'the lost job', 30_000);
    expect(stalled).toEqual([]);
  });

  it('along with the end of the job before: so it is too', async () => {
    const gate: { open?: () => void } = {};
    const opened = new Promise<void>((resolve) => (gate.open = resolve));
    const { link, taken, stalled } = await consume(async () => opened.then(() => 'done'));
    const first = await handOver();
    await eventually(async () => taken.includes(first), 'the first job');
    const lost = await handOver();
    link.loseAnswersFrom(TAKES);
    gate.open?.();
    await eventually(async () => isTaken(lost), 'the taking');
    link.cut();
    link.heal();
    await eventually(async () => taken.includes(lost), 'the lost job', 30_000);
    expect(stalled).toEqual([]);
  });
});

describe('R25 R68 a worker that begins while the server is away', () => {
  it('takes jobs once the server is back', async () => {
    const { link, taken } = await consume(undefined, { isRefused: true });
    // Both connections of BullMQ's, and one of ours, more than once.
    await eventually(() => link.refused >= 9, 'the refusal of its connections', 10_000);
    link.heal();
    const job = await handOver();
    await eventually(async () => taken.length > 0, 'the job', 30_000);
    expect(taken).toEqual([job]);
  });
});

describe('R25 R68 a worker whose call was ended by a closed connection, as on a Cluster that fails over', () => {
  it('asks for the next job soon, and not only after the 15 s that BullMQ waits', async () => {
    const take = jest
      .spyOn(Worker.prototype as unknown as { moveToActive(): Promise<unknown> }, 'moveToActive')
      .mockRejectedValueOnce(new Error('Connection is closed.'));
    try {
      const { taken } = await consume();
      const job = await handOver();
      await eventually(async () => taken.length > 0, 'the job', 10_000);
      expect(taken).toEqual([job]);
      expect(take.mock.calls.length).toBeLessThan(10);
    } finally {
      take.mockRestore();
    }
  });
});

describe('R42 an attempt that a worker refuses while the connection breaks', () => {
  it('is handed over again at once, although the answer to the end of its job was lost', async () => {
    const refusal: { link?: Link } = {};
    const { link, taken } = await consume(async () => {
      refusal.link?.loseAnswersFrom(TAKES);
      return taken.length > 1 ? 'done' : 'refused';
    });
    refusal.link = link;
    const refused = await handOver();
    await eventually(async () => taken.length === 1 && !(await isTaken(refused)), 'the end of its job');
    link.cut();
    link.heal();
    delete refusal.link;
    await eventually(async () => taken.length === 2, 'the second taking', 10_000);
    expect(taken).toEqual([refused, refused]);
  });
});

describe('R70 R78 a job whose end the server refuses to store at first', () => {
  const READONLY = "READONLY You can't write against a read only replica.";

  /** A job with two attempts that a consumer takes. `handle` gives its verdict. */
  async function take(queue: string, handle: () => Promise<JobVerdict>) {
    const jobs = new Queue(queue, { connection: near.connections.create('blocking'), prefix: 'bull' });
    const consumer = new JobConsumer(near, { prefix: 'bull', queue, concurrency: 1 });
    closing.push(async () => {
      jest.restoreAllMocks();
      await consumer.close();
      await jobs.close();
    });
    const attempts: number[] = [];
    consumer.consume(async ({ facts }) => {
      attempts.push(facts.attemptsMade);
      return handle();
    });
    const { id = '' } = await jobs.add('job', {}, { attempts: 2 });
    const stored = async () => (await jobs.getJob(id)) as Job;
    return { consumer, attempts, stored };
  }

  it('completes with its own answer, and does not run again', async () => {
    const report = jest.spyOn(Job.prototype, 'moveToCompleted').mockRejectedValueOnce(new Error(READONLY));
    const { attempts, stored } = await take('refused-done', async () => ({ done: 1 }));
    await eventually(async () => (await stored()).isCompleted(), 'the stored end', 8_000);
    expect(await stored()).toMatchObject({ returnvalue: 1, attemptsMade: 1 });
    expect([attempts, report.mock.calls.length]).toEqual([[0], 2]);
  });

  it('fails for its own reason, and before its lock has run out', async () => {
    jest.spyOn(Job.prototype, 'moveToFailed').mockRejectedValueOnce(new Error(READONLY));
    const { attempts, stored } = await take('refused-failed', async () => ({ failed: 'KILLED ord_1' }));
    await eventually(async () => (await stored()).isFailed(), 'the stored end', 8_000);
    expect(await stored()).toMatchObject({ failedReason: 'KILLED ord_1', attemptsMade: 1 });
    expect(attempts).toEqual([0]);
  });

  it('stays active for the next taker when its consumer closes', async () => {
    const report = jest.spyOn(Job.prototype, 'moveToCompleted').mockRejectedValue(new Error(READONLY));
    const gate: { open?: () => void } = {};
    const opened = new Promise<void>((resolve) => (gate.open = resolve));
    const { consumer, attempts, stored } = await take('refused-closing', async () =>
      opened.then(() => ({ done: 1 })),
    );
    await eventually(() => attempts.length === 1, 'the taking');
    const closed = consumer.close();
    gate.open?.();
    await closed;
    expect(report).toHaveBeenCalled();
    expect(await (await stored()).getState()).toBe('active');
    expect((await stored()).attemptsMade).toBe(0);
  });
});
