import { execFile, fork, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { AgentRecord, ExecutionRecord, Receipt } from '#libs/contracts';
import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { Queue, Worker as BullWorker, type Job } from 'bullmq';
import { placePerTest } from '../support/own-place';
import { eventually } from '../support/wait';

/** Instances of an application, each a process of its own, and a plain BullMQ producer. */
const APP = join(__dirname, '../fixtures/handlers/reports.app.cjs');

interface Line {
  readonly job: string;
  readonly what: 'start' | 'beat' | 'end';
  readonly at: number;
  readonly pid: number;
  readonly epoch: number;
}

interface Instance {
  readonly process: ChildProcess;
  readonly workerId: string;
}

/** One test's own resources. It mostly waits for a lease, or for BullMQ to find a stalled job. */
interface Place {
  /** The prefix of its keys and its queue. */
  readonly prefix: string;
  readonly record: string;
  readonly queue: Queue;
  readonly instances: Instance[];
  valkey?: Valkey;
}

let server: ThrowawayServer;
let dir: string;
let places = 0;
const { here, it: ownTest } = placePerTest<Place>(
  () => {
    const prefix = `jobs${places++}`;
    const queue = new Queue('reports', { connection: { url: server.url }, prefix });
    return { prefix, record: join(dir, `${prefix}.jsonl`), queue, instances: [] };
  },
  async ({ instances, queue, valkey }) => {
    await Promise.all(instances.map(stop));
    await queue.close();
    valkey?.close();
  },
);
beforeAll(async () => {
  server = await startThrowawayServer();
  dir = mkdtempSync(join(tmpdir(), 'belay-processors-'));
});
afterAll(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** The default of `handlers.waiting`: one process waits for the next job. */
const DEFAULT = 1;

/**
 * @param waiting processes that wait for a job; 0: each job starts its own. The others would mostly wait in vain, and each costs
 *   as much as a job.
 */
async function start(count: number, jobsAtOnce = 4, waiting = 0): Promise<Instance[]> {
  const { prefix, record, instances } = here();
  const added = await Promise.all(
    Array.from({ length: count }, async () => {
      const name = `${prefix}-${instances.length}-${Math.random()}`;
      const options = {
        url: server.url,
        keyPrefix: prefix,
        queuePrefix: prefix,
        dataDir: join(dir, name),
        workDir: dir,
        graceMs: 300,
        stopTimeoutMs: 300,
        leaseTtlMs: 4_000,
        heartbeatMs: 300,
      };
      const child = fork(APP, [JSON.stringify(options)], {
        env: {
          PATH: process.env['PATH'],
          HOME: process.env['HOME'],
          JOBS_RECORD: record,
          JOBS_AT_ONCE: String(jobsAtOnce),
          JOBS_WAITING: String(waiting),
        },
        detached: true,
      });
      const [{ workerId }] = (await once(child, 'message')) as [{ workerId: string }];
      return { process: child, workerId };
    }),
  );
  instances.push(...added);
  return added;
}

const isOver = ({ process: { exitCode, signalCode } }: Instance): boolean =>
  exitCode !== null || signalCode !== null;

/** Stops an instance like a deployment does. */
async function stop(instance: Instance): Promise<void> {
  if (isOver(instance)) return;
  const ended = once(instance.process, 'exit');
  instance.process.kill('SIGTERM');
  await ended;
}

async function kill(by: Instance | undefined, jobId: string): Promise<Receipt> {
  if (by === undefined) throw new Error('no instance to kill from');
  const answered = new Promise<{ receipt?: Receipt; error?: string }>((resolve) => {
    const take = (message: { kill?: string; receipt?: Receipt; error?: string }): void => {
      if (message.kill !== jobId) return;
      by.process.off('message', take);
      resolve(message);
    };
    by.process.on('message', take);
  });
  by.process.send({ kill: jobId });
  const { receipt, error } = await answered;
  if (receipt === undefined) throw new Error(error);
  return receipt;
}

const lines = (): Line[] =>
  existsSync(here().record)
    ? readFileSync(here().record, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Line)
    : [];
const starts = (jobId: string): Line[] =>
  lines().filter(({ job, what }) => job === jobId && what === 'start');
const begun = async (jobId: string): Promise<void> =>
  void (await eventually(() => starts(jobId).length > 0, `the start of job ${jobId}`));

const add = async (data: object, options: object = {}): Promise<Job> =>
  here().queue.add('report', data, options);
const idOf = ({ id }: Job): string => id ?? '';

async function endOf(job: Job): Promise<Job> {
  return eventually(
    async () => {
      const found = await here().queue.getJob(idOf(job));
      return found !== undefined && found.finishedOn !== undefined && found;
    },
    `the end of job ${job.id}`,
    90_000,
  );
}

/** Pairs of copies of one job that overlap in time, from the start to the last line of each. */
function overlaps(): string[] {
  const found: string[] = [];
  const lives = new Map<string, { job: string; from: number; to: number }>();
  for (const { job, pid, at } of lines()) {
    const key = `${job}/${pid}`;
    const life = lives.get(key) ?? { job, from: at, to: at };
    lives.set(key, { ...life, to: Math.max(life.to, at) });
  }
  const all = [...lives.entries()];
  for (const [i, [a, one]] of all.entries())
    for (const [b, other] of all.slice(i + 1))
      if (one.job === other.job && one.from <= other.to && other.from <= one.to) found.push(`${a} ${b}`);
  return found;
}

describe('R78 jobs of a killable processor', () => {
  ownTest(
    'run as with BullMQ: result, progress, log, attempts, an error that is final',
    async () => {
      await start(1, 4, DEFAULT);
      const ok = await add({ do: 'render', page: 7 }, { attempts: 3 });
      const again = await add({ do: 'fails', times: 1 }, { attempts: 2 });
      const failed = await add({ do: 'fails', times: 9 }, { attempts: 2 });
      const final = await add({ do: 'giveUp' }, { attempts: 5 });
      const left = await add({ do: 'leave' });
      const done = await endOf(ok);
      expect(done.returnvalue).toEqual({
        page: 7,
        name: 'report',
        attemptsMade: 0,
        queueName: 'reports',
        attempts: 3,
      });
      expect(done.progress).toEqual({ begun: 1 });
      expect((await here().queue.getJobLogs(idOf(ok))).logs).toEqual(['page 7']);
      expect(await endOf(again)).toMatchObject({ returnvalue: 1, attemptsMade: 2 });
      expect(await endOf(failed)).toMatchObject({ failedReason: 'attempt 1', attemptsMade: 2 });
      expect(await endOf(final)).toMatchObject({ failedReason: 'never again', attemptsMade: 1 });
      expect(await endOf(left)).toMatchObject({
        failedReason: 'The process of the handler ended before the handler did.',
      });
      expect(overlaps()).toEqual([]);
    },
    180_000,
  );

  ownTest(
    'are killed by id from another instance, with proof, and never tried again',
    async () => {
      const [one, other] = await start(2, 2, DEFAULT);
      const jobs = [
        await add({ do: 'wait', page: 1 }, { attempts: 5 }),
        await add({ do: 'spin', page: 2 }, { attempts: 5 }),
      ];
      for (const job of jobs) await begun(idOf(job));
      const receipts = [await kill(one, idOf(jobs[0] as Job)), await kill(other, idOf(jobs[1] as Job))];
      for (const [i, job] of jobs.entries()) {
        expect(receipts[i]).toMatchObject({ complete: true, totals: { total: 1, killed: 1 }, missing: [] });
        const ended = await endOf(job);
        expect(ended.failedReason).toBe(`KILLED ${receipts[i]?.orderId}`);
        expect(ended.attemptsMade).toBe(1);
        expect(await ended.getState()).toBe('failed');
        expect(starts(idOf(job))).toHaveLength(1);
      }
    },
    180_000,
  );

  ownTest(
    'of an instance that is told to stop go on at another',
    async () => {
      const [first] = await start(1);
      const job = await add({ do: 'second', page: 1 });
      await begun(idOf(job));
      await start(1);
      await stop(first as Instance);
      expect(await endOf(job)).toMatchObject({ returnvalue: { page: 1 } });
      expect(starts(idOf(job)).map(({ epoch }) => epoch)).toEqual([1, 2]);
      expect(overlaps()).toEqual([]);
    },
    180_000,
  );

  ownTest(
    'of an instance that is lost never run twice at once, and end at another',
    async () => {
      const [first] = await start(1);
      const job = await add({ do: 'second', page: 1 });
      await begun(idOf(job));
      await start(1);
      first?.process.kill('SIGKILL');
      expect(await endOf(job)).toMatchObject({ returnvalue: { page: 1 } });
      expect(starts(idOf(job)).map(({ epoch }) => epoch)).toEqual([1, 2]);
      expect(overlaps()).toEqual([]);
    },
    180_000,
  );
});

describe('R78 a job whose instance gets kill -9', () => {
  const lives = new WeakMap<Place, LifecycleService>();
  async function connect(): Promise<void> {
    const place = here();
    place.valkey = await new Valkey({ url: server.url, keyPrefix: place.prefix, shards: 4 }).open();
    lives.set(place, new LifecycleService(place.valkey, { retentionMs: 60_000 }));
  }
  function life(): LifecycleService {
    const found = lives.get(here());
    if (found === undefined) throw new Error('connect() comes first');
    return found;
  }

  const only = async (): Promise<ExecutionRecord | undefined> => (await life().executions.list({})).items[0];
  const agent = async (): Promise<AgentRecord | undefined> => (await life().agents.list({}))[0];
  const said = (what: Line['what']): boolean => lines().some((line) => line.what === what);

  ownTest.each<{ moment: string; is: () => Promise<unknown>; most: number }>([
    { moment: 'right after its submit', is: only, most: 2 },
    {
      moment: 'after its claim, before it starts',
      is: async () => (await agent()) && !said('start'),
      most: 2,
    },
    { moment: 'while it runs', is: async () => said('beat') && !said('end'), most: 2 },
    { moment: 'at its end, stored or not', is: async () => said('end'), most: 2 },
    {
      moment: 'when its end is stored, before BullMQ hears of it',
      is: async () => (await only())?.state === 'completed',
      most: 1,
    },
  ])(
    '$moment ends once, elsewhere, and never runs twice at once',
    async ({ is, most }) => {
      await connect();
      // Time passes between a claim and a start only where no process waits.
      const [first] = await start(1);
      const job = await add({ do: 'render', page: 5, forMs: 500 }, { attempts: 1 });
      await eventually(async () => (await is()) || undefined, 'the moment');
      first?.process.kill('SIGKILL');
      await start(1);
      expect(await endOf(job)).toMatchObject({ returnvalue: { page: 5 }, attemptsMade: 1 });
      expect(starts(idOf(job)).length).toBeGreaterThanOrEqual(1);
      expect(starts(idOf(job)).length).toBeLessThanOrEqual(most);
      expect(overlaps()).toEqual([]);
      expect((await life().executions.list({})).items).toHaveLength(1);
    },
    180_000,
  );

  ownTest(
    'between the take and the submit is taken up by another',
    async () => {
      // This process takes the job with a short lock, and vanishes.
      const taker = new BullWorker('reports', null, {
        connection: { url: server.url, maxRetriesPerRequest: null },
        prefix: here().prefix,
        lockDuration: 500,
      });
      const job = await add({ do: 'render', page: 6 });
      expect((await taker.getNextJob('gone'))?.id).toBe(job.id);
      await taker.close(true);
      await start(1);
      expect(await endOf(job)).toMatchObject({ returnvalue: { page: 6 } });
      expect(starts(idOf(job))).toHaveLength(1);
    },
    180_000,
  );
});

describe('R78 the recipe of docs/processors.md, in a short run', () => {
  it('has a receipt for each job, none of which ran twice; BullMQ’s cancel reaches no other instance and no deaf job', async () => {
    const root = join(__dirname, '../..');
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [join(root, 'scripts/processors.mjs'), '--instances', '2', '--jobs', '12'],
      { cwd: root, timeout: 240_000 },
    );
    expect(JSON.parse(stdout)).toEqual({
      killed: {
        instances: 2,
        jobs: 12,
        completeReceipts: 12,
        failedAsKilled: 12,
        triedAgain: 0,
        startedTwice: 0,
        provedDeadMsP50: expect.any(Number),
        ms: expect.any(Number),
      },
      handedOn: { jobs: 8, completed: 8, ranAgain: expect.any(Number), twiceAtOnce: 0 },
      lost: { jobs: 8, completed: 8, ranAgain: expect.any(Number), twiceAtOnce: 0 },
      bullmq: { jobs: 4, cancelledFromAnother: 0, cancelledByItsOwner: 4, stillActive: 2 },
    });
  }, 250_000);
});

it('the example of docs/processors.md is examples/processors.cjs, and runs', () => {
  const root = join(__dirname, '../..');
  const ran = spawnSync(process.execPath, [join(root, 'examples/processors.cjs')], {
    env: { ...process.env, BELAY_VALKEY_URL: server.url },
    cwd: dir,
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect({ stdout: ran.stdout, status: ran.status }).toEqual({ stdout: 'true 1 true\n', status: 0 });
  const [page, example] = ['docs/processors.md', 'examples/processors.cjs'].map((path) =>
    readFileSync(join(root, path), 'utf8'),
  );
  expect(page).toContain(`\`\`\`js\n${example}\`\`\``);
});
