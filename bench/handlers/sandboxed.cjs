'use strict';
/** BullMQ's sandboxed processor reuses its processes, so each makes the module once. */
require('reflect-metadata');
const { NestFactory } = require('@nestjs/core');
const { Adds, JobsModule } = require('./jobs.module.cjs');

let app;
module.exports = async ({ data }) => {
  app ??= NestFactory.createApplicationContext(JobsModule, { logger: false });
  return (await app).get(Adds).run(data);
};
