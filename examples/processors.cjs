// A BullMQ job that is killed while it is active, by its id. The producer is plain BullMQ.
// BELAY_VALKEY_URL=redis://127.0.0.1:6379 node examples/processors.cjs
require('reflect-metadata');
const { Injectable, Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { BelayModule, KillableHost, KillableProcessor, KillswitchService } = require('belayd/nest');
const { Queue } = require('bullmq');

class Reports extends KillableHost {
  async process(job) {
    await job.updateProgress('rendering');
    for (;;); // as bad code does: no abort signal would end it
  }
}
Injectable()(Reports);
KillableProcessor('reports', { concurrency: 5 })(Reports);

class JobsModule {}
Module({ providers: [Reports] })(JobsModule);
module.exports = { JobsModule };

async function main() {
  const url = process.env.BELAY_VALKEY_URL;
  const handlers = { module: __filename, export: 'JobsModule' };
  class AppModule {}
  Module({ imports: [JobsModule, BelayModule.forRoot({ url, handlers, graceMs: 300 })] })(AppModule);
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'] });
  app.enableShutdownHooks();

  const queue = new Queue('reports', { connection: { url } });
  const { id: jobId } = await queue.add('render', { page: 1 }, { attempts: 3 });
  const job = async () => queue.getJob(jobId);
  while ((await job()).progress !== 'rendering') await new Promise((r) => setTimeout(r, 50));

  const killswitch = app.get(KillswitchService);
  const order = await killswitch.placeOrder({
    scope: { type: 'job', queue: 'reports', jobId },
    by: 'example',
  });
  const { complete, totals } = await killswitch.waitForReceipt(order.id);
  while (!(await (await job()).isFailed())) await new Promise((r) => setTimeout(r, 50));
  console.log(complete, totals.killed, (await job()).failedReason === `KILLED ${order.id}`);

  await queue.close();
  await app.close();
}

if (require.main === module) void main();
