// The recipe of docs/processors.md: instances of an application with a killable processor, and a plain BullMQ producer. Kills
// every active job by its id from another instance. Then, while jobs run, one instance is told to stop, and one is killed with
// -9. BullMQ's own cancel is measured beside it. Prints one JSON object.
//
//   npm run build && node scripts/processors.mjs --instances 4 --jobs 200
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startThrowawayServer } from '#libs/local-server';
import { Queue } from 'bullmq';

const { values } = parseArgs({
  options: {
    instances: { type: 'string', default: '4' },
    jobs: { type: 'string', default: '200' },
    /** Only the kills by id. */
    kills: { type: 'boolean', default: false },
  },
});
const INSTANCES = Number(values.instances);
const JOBS = Number(values.jobs);
/** Jobs of one instance at a time. */
const AT_ONCE = Math.min(4, Math.ceil(JOBS / INSTANCES));
/** A bound for a broken product, never a measurement. */
const PATIENCE_MS = 900_000;
const LOOK_MS = 100;
const FIXTURES = fileURLToPath(new URL('../test/fixtures/handlers', import.meta.url));

const dir = mkdtempSync(join(tmpdir(), 'belay-recipe-'));
const record = join(dir, 'jobs.jsonl');
const server = await startThrowawayServer();
const children = new Set();
const { PATH, HOME } = process.env;

try {
  const killed = await killAll();
  const rest = values.kills
    ? {}
    : { handedOn: await handOn('SIGTERM'), lost: await handOn('SIGKILL'), bullmq: await cancelWithBullMq() };
  process.stdout.write(`${JSON.stringify({ killed, ...rest })}\n`);
} finally {
  for (const child of children) await end(child, 'SIGKILL');
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
}

/** Kills each active job from another instance than the one that took it. Waiting jobs become active meanwhile. */
async function killAll() {
  const prefix = 'killed';
  const queue = new Queue('reports', { connection: { url: server.url }, prefix });
  const instances = await startInstances(prefix, INSTANCES);
  const kinds = ['wait', 'spin', 'render'];
  const jobs = await queue.addBulk(
    Array.from({ length: JOBS }, (_, i) => ({
      name: 'report',
      data: { do: kinds[i % 3], page: i, forMs: 600_000 },
      opts: { attempts: 3 },
    })),
  );
  const owners = new Map(instances.map((instance) => [instance.workerId, instance]));
  const receipts = new Map();
  const asked = new Set();
  const begun = performance.now();
  await until(() => {
    for (const { job, worker } of lines()) {
      if (asked.has(job)) continue;
      asked.add(job);
      const other = instances.find((instance) => instance !== owners.get(worker));
      void kill(other, job).then((receipt) => receipts.set(job, receipt));
    }
    return receipts.size === JOBS;
  }, 'a receipt of each job');
  const ms = Math.round(performance.now() - begun);
  const ended = [];
  for (const { id } of jobs) ended.push(await endOf(queue, id));
  const whole = [...receipts.values()].filter(({ complete, totals }) => complete && totals.killed === 1);
  const answer = {
    instances: INSTANCES,
    jobs: JOBS,
    completeReceipts: whole.length,
    failedAsKilled: ended.filter(
      ({ id, failedReason }) => failedReason === `KILLED ${receipts.get(id)?.orderId}`,
    ).length,
    triedAgain: ended.filter(({ attemptsMade }) => attemptsMade !== 1).length,
    startedTwice: JOBS - lines().filter(({ what }) => what === 'start').length,
    provedDeadMsP50: median(whole.map(({ targets }) => targets[0].latency?.provedMs ?? Number.NaN)),
    ms,
  };
  await endAll(instances, queue);
  return answer;
}

/** Ends one of the instances while jobs run on it: each job ends, and no two copies of it run at once. */
async function handOn(signal) {
  const prefix = `handed-${signal}`;
  rmSync(record, { force: true });
  const queue = new Queue('reports', { connection: { url: server.url }, prefix });
  const instances = await startInstances(prefix, INSTANCES);
  const count = AT_ONCE * INSTANCES;
  const jobs = await queue.addBulk(
    Array.from({ length: count }, (_, i) => ({
      name: 'report',
      data: { do: 'render', page: i, forMs: 4_000 },
    })),
  );
  await until(() => lines().filter(({ what }) => what === 'start').length >= count / 2, 'half of the jobs');
  await end(instances[0].child, signal);
  const ended = [];
  for (const { id } of jobs) ended.push(await endOf(queue, id));
  const answer = {
    jobs: count,
    completed: ended.filter(({ returnvalue }) => returnvalue !== null).length,
    ranAgain: lines().filter(({ what, epoch }) => what === 'start' && epoch > 1).length,
    twiceAtOnce: overlaps(),
  };
  await endAll(instances, queue);
  return answer;
}

/** BullMQ's `cancelJob`, called in another instance and in the one that has the job. */
async function cancelWithBullMq() {
  const prefix = 'plain';
  rmSync(record, { force: true });
  const queue = new Queue('reports', { connection: { url: server.url }, prefix });
  const options = JSON.stringify({ url: server.url, prefix, concurrency: 2 });
  const instances = await Promise.all(
    [0, 1].map(async () => ({ child: await start('plain.app.cjs', options) })),
  );
  await queue.addBulk(
    ['listens', 'listens', 'wait', 'wait'].map((what) => ({ name: 'report', data: { do: what } })),
  );
  await until(() => lines().length === 4, 'its four jobs');
  const answer = { jobs: 4, cancelledFromAnother: 0, cancelledByItsOwner: 0, stillActive: 0 };
  for (const { job, pid } of lines()) {
    const owner = instances.find(({ child }) => child.pid === pid);
    const other = instances.find(({ child }) => child.pid !== pid);
    if (await ask(other.child, { cancel: job }, ({ cancel }) => cancel === job).then(({ done }) => done))
      answer.cancelledFromAnother++;
    if (await ask(owner.child, { cancel: job }, ({ cancel }) => cancel === job).then(({ done }) => done))
      answer.cancelledByItsOwner++;
  }
  await until(async () => (await queue.getActiveCount()) <= 2, 'the end of those that listen');
  answer.stillActive = await queue.getActiveCount();
  await endAll(instances, queue, 'SIGKILL');
  return answer;
}

async function startInstances(prefix, count) {
  return Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const options = {
        url: server.url,
        keyPrefix: prefix,
        queuePrefix: prefix,
        dataDir: join(dir, `${prefix}-${i}`),
        workDir: dir,
        graceMs: 300,
        stopTimeoutMs: 300,
        leaseTtlMs: 4_000,
        heartbeatMs: 300,
      };
      const child = await start('reports.app.cjs', JSON.stringify(options));
      return { child, workerId: child.told.workerId };
    }),
  );
}

async function start(program, options) {
  const child = fork(join(FIXTURES, program), [options], {
    env: { PATH, HOME, JOBS_RECORD: record, JOBS_AT_ONCE: String(AT_ONCE) },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    detached: true,
  });
  child.setMaxListeners(0);
  children.add(child);
  [child.told] = await once(child, 'message');
  return child;
}

async function kill({ child }, jobId) {
  const { receipt, error } = await ask(child, { kill: jobId }, (message) => message.kill === jobId);
  if (error !== undefined) throw new Error(error);
  return receipt;
}

async function ask(child, message, isAnswer) {
  const answered = new Promise((resolve) => {
    const take = (answer) => {
      if (!isAnswer(answer)) return;
      child.off('message', take);
      resolve(answer);
    };
    child.on('message', take);
  });
  child.send(message);
  return answered;
}

async function endAll(instances, queue, signal = 'SIGTERM') {
  await Promise.all(instances.map(async ({ child }) => end(child, signal)));
  await queue.close();
}

async function end(child, signal) {
  children.delete(child);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

async function endOf(queue, id) {
  let job;
  await until(async () => {
    job = await queue.getJob(id);
    return job?.finishedOn !== undefined;
  }, `the end of job ${id}`);
  return job;
}

/** The jobs' own records. */
function lines() {
  if (!existsSync(record)) return [];
  return readFileSync(record, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => JSON.parse(line));
}

/** Pairs of copies of one job that overlap in time: from the first line of each to its last. */
function overlaps() {
  const lives = new Map();
  for (const { job, pid, at } of lines()) {
    const life = lives.get(`${job}/${pid}`) ?? { job, from: at, to: at };
    lives.set(`${job}/${pid}`, { ...life, to: Math.max(life.to, at) });
  }
  const all = [...lives.values()];
  return all
    .flatMap((one, i) => all.slice(i + 1).map((other) => [one, other]))
    .filter(([one, other]) => one.job === other.job && one.from <= other.to && other.from <= one.to).length;
}

function median(samples) {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)];
}

async function until(look, what) {
  const begun = performance.now();
  while (!(await look())) {
    if (performance.now() - begun > PATIENCE_MS)
      throw new Error(`${what} was not seen within ${PATIENCE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
