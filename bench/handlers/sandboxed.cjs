'use strict';
/** BullMQ's sandboxed processor: its processes are used again, so the module is made once in each. */
require('reflect-metadata');
const { NestFactory } = require('@nestjs/core');
const { Adds, JobsModule } = require('./jobs.module.cjs');

let app;
module.exports = async ({ data }) => {
  app ??= NestFactory.createApplicationContext(JobsModule, { logger: false });
  return (await app).get(Adds).run(data);
};
