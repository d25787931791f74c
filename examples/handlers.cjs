// A handler of a Nest application: each attempt runs in a process of its own, with the application's providers.
// BELAY_VALKEY_URL=redis://127.0.0.1:6379 node examples/handlers.cjs
require('reflect-metadata');
const { Injectable, Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { AgentHandler, BelayModule, ExecutionManager, LifecycleService } = require('belayd/nest');
const { z } = require('zod');

class Prices {
  of(item) {
    return { tea: 3, cake: 4 }[item];
  }
}

class Sum {
  constructor(prices) {
    this.prices = prices;
  }

  async run({ items }, context) {
    let total = 0;
    for (const [index, item] of items.entries()) {
      context.signal.throwIfAborted();
      total += this.prices.of(item);
      context.checkpoint({ next: index + 1, total });
    }
    return { total };
  }
}
Injectable()(Sum);
Reflect.defineMetadata('design:paramtypes', [Prices], Sum); // TypeScript writes this line
AgentHandler('sum', {
  input: z.object({ items: z.array(z.string()) }),
  result: z.object({ total: z.number() }),
})(Sum);

class JobsModule {}
Module({ providers: [Prices, Sum] })(JobsModule);
module.exports = { JobsModule };

async function main() {
  const handlers = { module: __filename, export: 'JobsModule' };
  class AppModule {}
  Module({ imports: [JobsModule, BelayModule.forRoot({ url: process.env.BELAY_VALKEY_URL, handlers })] })(
    AppModule,
  );
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'] });
  app.enableShutdownHooks();
  const { execution } = await app.get(ExecutionManager).submit({
    name: 'till',
    nodes: [{ id: 'sum', run: { handler: 'sum' }, input: { items: ['tea', 'cake'] } }],
  });
  const { executions } = app.get(LifecycleService);
  while ((await executions.get(execution.id)).state === 'running')
    await new Promise((r) => setTimeout(r, 50));
  console.log(await executions.node(execution.id, 'sum').then(({ state, result }) => ({ state, result })));
  await app.close();
}

if (require.main === module) void main();
