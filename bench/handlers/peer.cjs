'use strict';
/** BullMQ alone: peer.cjs '{ url, concurrency }', the same messages as app.cjs. */
const { Queue, QueueEvents, Worker } = require('bullmq');

const { url, concurrency } = JSON.parse(process.argv[2]);
const connection = { url, maxRetriesPerRequest: null };

async function main() {
  const queue = new Queue('sandboxed', { connection });
  const events = new QueueEvents('sandboxed', { connection });
  const worker = new Worker('sandboxed', require.resolve('./sandboxed.cjs'), { connection, concurrency });
  for (const each of [queue, events, worker]) each.on('error', () => undefined);
  await Promise.all([worker.waitUntilReady(), events.waitUntilReady()]);
  const run = async (count) => {
    const begun = performance.now();
    let left = count;
    const done = new Promise((resolve, reject) => {
      worker.on('completed', () => --left === 0 && resolve());
      worker.on('failed', (_, error) => reject(error));
    });
    await queue.addBulk(Array.from({ length: count }, (_, n) => ({ name: 'adds', data: { n } })));
    await done;
    worker.removeAllListeners('completed').removeAllListeners('failed');
    return performance.now() - begun;
  };
  process.on('message', ({ run: count = 1 }) => {
    void run(count).then(
      (ms) => process.send({ ms }),
      (error) => process.send({ error: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit());
  process.on('SIGTERM', () => {
    void Promise.all([worker.close(), queue.close(), events.close()]).then(() => process.exit());
  });
  const { user, system } = process.cpuUsage();
  process.send({ cpuMs: (user + system) / 1_000 });
}

void main();
