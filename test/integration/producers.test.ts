import { createClient } from '#libs/client';
import { PRODUCERS_QUEUE, type ProducerProgress, type ProducerResult } from '#libs/contracts';
import { Queue, QueueEvents, type Job } from 'bullmq';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';

let fleet: Fleet;
let queue: Queue;
let events: QueueEvents;

const node = (id: string, script: string, dependsOn: string[] = []) => ({
  id,
  dependsOn,
  run: { command: ['/bin/sh', '-c', script] },
});
const result = async (job: Job): Promise<ProducerResult> =>
  (await job.waitUntilFinished(events, 30_000)) as ProducerResult;
const fresh = async ({ id }: Job): Promise<Job> => (await queue.getJob(id ?? '')) as Job;
const executions = async () => (await fleet.client.executions({ limit: 1_000 })).items;

beforeAll(async () => {
  fleet = await startFleet({ workers: 2 });
  // A producer in another repository needs only this: BullMQ and the queue's name.
  const connection = { url: fleet.server.url };
  queue = new Queue(PRODUCERS_QUEUE, { connection });
  events = new QueueEvents(PRODUCERS_QUEUE, { connection });
  await events.waitUntilReady();
});

afterAll(async () => {
  await events.close();
  await queue.close();
  await fleet.stop();
});

it('R70 a job is an execution: its progress follows the nodes, its return value is the summary', async () => {
  const seen: ProducerProgress[] = [];
  events.on('progress', ({ data }) => seen.push(data as unknown as ProducerProgress));
  const job = await queue.add('nightly', {
    name: 'from-a-producer',
    nodes: [node('a', 'sleep 0.5'), node('b', 'sleep 0.5', ['a'])],
  });
  const answer = await result(job);
  expect(answer).toMatchObject({
    status: 'completed',
    finalCostUsd: 0,
    summary: { nodesCompleted: 2, nodesFailed: 0, nodesTotal: 2 },
  });
  expect(await fleet.client.execution(answer.executionId)).toMatchObject({ state: 'completed' });
  const running = seen.flatMap((progress) => ('nodes' in progress ? [progress] : []));
  expect(new Set(running.map(({ executionId }) => executionId))).toEqual(new Set([answer.executionId]));
  expect(running.some(({ nodes }) => nodes.running === 1 && nodes.completed < 2)).toBe(true);
  expect(running.at(-1)).toMatchObject({ state: 'completed', nodes: { completed: 2 } });
});

it('R70 an execution that fails is a summary too, and says why', async () => {
  const job = await queue.add('fails', { name: 'fails', nodes: [node('a', 'exit 3')] });
  expect(await result(job)).toMatchObject({
    status: 'failed',
    reason: 'error',
    error: { code: 'EXIT' },
    summary: { nodesFailed: 1 },
  });
});

it('R70 a bad spec fails its job for good with every problem, and stores nothing', async () => {
  const before = (await executions()).length;
  const bad: unknown[] = [
    { name: 'x', nodes: [node('a', 'true', ['nobody']), { ...node('a', 'true'), pol: 1 }] },
    'text',
    7,
    [],
    {},
  ];
  for (const data of bad) {
    const job = await queue.add('bad', data, { attempts: 5 });
    await expect(result(job)).rejects.toThrow(/^INVALID_SPEC: /);
    expect(await fresh(job)).toMatchObject({ attemptsMade: 1 });
  }
  const first = (await queue.getJobs(['failed'])).find(
    (job) => typeof job.data === 'object' && job.data.name === 'x',
  );
  for (const problem of ['nodes[0].dependsOn[0]', 'nodes[1].id', 'nodes[1].pol'])
    expect(first?.failedReason).toContain(problem);
  expect(await executions()).toHaveLength(before);
});

it('R53 jobs wait while a latch covers them, say for which, and go on once it is released', async () => {
  const before = (await executions()).length;
  const { id: latchId } = await fleet.client.engageLatch({ scope: { type: 'all' }, note: 'night' });
  const jobs = await queue.addBulk(
    Array.from({ length: 20 }, (_, i) => ({
      name: 'latched',
      data: { name: `latched-${i}`, nodes: [node('a', 'true')] },
    })),
  );
  for (const job of jobs) {
    const waiting = await eventually(async () => {
      const { progress } = await fresh(job);
      return typeof progress === 'object' && (progress as ProducerProgress);
    }, 'that a job waits');
    expect(waiting).toMatchObject({ waitingFor: 'latch', latchId });
  }
  expect(await executions()).toHaveLength(before);
  await fleet.client.releaseLatch(latchId, 'morning');
  for (const job of jobs) expect(await result(job)).toMatchObject({ status: 'completed' });
  expect(await executions()).toHaveLength(before + jobs.length);
});

it('R70 one execution for one job, although the orchestrators that follow it die and drain', async () => {
  const job = await queue.add('long', { name: 'long', nodes: [node('a', 'sleep 600')] });
  const { executionId } = await eventually(async () => {
    const { progress } = await fresh(job);
    return typeof progress === 'object' && 'executionId' in progress && (progress as { executionId: string });
  }, 'the execution');
  await eventually(async () => processesWith(executionId).length > 0, 'its process');
  const [first] = fleet.orchestrators;
  const second = await fleet.addOrchestrator();
  first?.process.kill('SIGKILL');
  await first?.exited;
  // Its lock must run out before BullMQ gives the job to another.
  await eventually(async () => (await fresh(job)).attemptsStarted === 2, 'the second taker', 40_000);
  const third = await fleet.addOrchestrator();
  second.process.kill('SIGTERM');
  expect(await second.exited).toBe(0);
  // Drained, not dead: requeued, without a lock that must run out first.
  const taken = async () => (await fresh(job)).attemptsStarted >= 3 && (await job.getState()) === 'active';
  await eventually(taken, 'the third taker', 8_000);
  const client = createClient({ url: third.url ?? '', token: fleet.token });
  const { items } = await client.executions({ limit: 1_000 });
  expect(items.filter(({ name }) => name === 'long')).toHaveLength(1);
  await client.stop(executionId);
  expect(await result(job)).toMatchObject({ executionId, status: 'stopped', reason: 'user_abort' });
  expect(processesWith(executionId)).toEqual([]);
});
