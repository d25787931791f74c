'use strict';
/**
 * An application with one handler: app.cjs '{ options, waiting }'. { run: count } runs `count` nodes, { alone: true } one when
 * all processes wait.
 */
require('reflect-metadata');
const { Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { BelayModule, BelayRuntime, ExecutionManager } = require('belayd/nest');
const { JobsModule } = require('./jobs.module.cjs');

const { options, waiting } = JSON.parse(process.argv[2]);
const handlers = { module: require.resolve('./jobs.module.cjs'), export: 'JobsModule', waiting };
class AppModule {}
Module({ imports: [JobsModule, BelayModule.forRoot({ ...options, handlers })] })(AppModule);

const RUN_MS = 3_600_000;

async function main() {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
  app.enableShutdownHooks();
  const runtime = app.get(BelayRuntime);
  const allWait = async () => {
    while (runtime.worker.waiting < waiting) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  const run = async (count) => {
    const nodes = Array.from({ length: count }, (_, n) => ({
      id: `n${n}`,
      run: { handler: 'adds' },
      input: { n },
    }));
    const begun = performance.now();
    const { execution } = await app.get(ExecutionManager).submit({ name: 'adds', nodes });
    const { state } = await runtime.waitForEnd(execution.id, { timeoutMs: RUN_MS });
    if (state !== 'completed') throw new Error(`the execution ended as ${state}`);
    return performance.now() - begun;
  };
  process.on('message', ({ run: count = 1, alone = false }) => {
    void (alone ? allWait() : Promise.resolve())
      .then(async () => run(count))
      .then(
        (ms) => process.send({ ms }),
        (error) => process.send({ error: String(error) }),
      );
  });
  process.on('disconnect', () => process.exit());
  await allWait();
  const { user, system } = process.cpuUsage();
  process.send({ cpuMs: (user + system) / 1_000 });
}

void main();
