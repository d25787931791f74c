import { spawn } from 'node:child_process';
import { Valkey } from '#libs/valkey';
import { Worker } from 'bullmq';
import { FLOW_ROOT } from './graph';

/**
 * BullMQ's side of the dag benchmark: a worker process whose processor does nothing, or runs one program. Reports over IPC when
 * a flow's root is done.
 */
async function main([
  url = '',
  queue = '',
  concurrency = '1',
  program = '',
]: readonly string[]): Promise<void> {
  const valkey = new Valkey({ url, keyPrefix: 'bare', shards: 1 });
  const run = async (): Promise<void> => {
    if (program === '') return;
    const child = spawn(program, [], { detached: true, stdio: 'ignore' });
    await new Promise((resolve, reject) => child.once('exit', resolve).once('error', reject));
  };
  const worker = new Worker(queue, run, {
    connection: valkey.connections.create('blocking'),
    concurrency: Number(concurrency),
  });
  worker.on('completed', (job) => job.name === FLOW_ROOT && process.send?.('done'));
  worker.on('error', () => undefined);
  const end = (): void => {
    valkey.close();
    process.exit();
  };
  process.on('disconnect', end);
  process.on('SIGTERM', end);
  await worker.waitUntilReady();
  process.send?.('ready');
}

void main(process.argv.slice(2));
