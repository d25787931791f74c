// A Nest application with Belay in it: submits, runs, kills with proof, shuts down by Nest's hooks.
// BELAY_VALKEY_URL=redis://127.0.0.1:6379 node examples/nest.cjs
require('reflect-metadata');
const { Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { BelayModule, ExecutionManager, KillswitchService, LifecycleService } = require('belayd/nest');

class AppModule {}
Module({
  imports: [
    BelayModule.forRootAsync({ useFactory: () => ({ url: process.env.BELAY_VALKEY_URL, graceMs: 300 }) }),
  ],
})(AppModule);

async function main() {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'] });
  app.enableShutdownHooks();
  const { execution } = await app.get(ExecutionManager).submit({
    name: 'forever',
    nodes: [{ id: 'sleep', run: { command: ['sleep', '600'] } }],
  });
  const agents = () =>
    app.get(LifecycleService).agents.list({ executionId: execution.id, states: ['running'] });
  while ((await agents()).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  const stop = await app.get(KillswitchService).stops.stop(execution.id, { by: 'example' });
  console.log(stop.status, stop.receipt.complete, stop.receipt.totals.killed);
  await app.close();
}

void main();
