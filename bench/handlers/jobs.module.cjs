'use strict';
/** The work of the benchmark `handlers`, the same for Belay, for BullMQ's sandboxed processor and for bare processes. */
require('reflect-metadata');
const { Injectable, Module } = require('@nestjs/common');
const { AgentHandler } = require('belayd/nest');

class Numbers {
  next(n) {
    return n + 1;
  }
}
Injectable()(Numbers);

class Adds {
  constructor(numbers) {
    this.numbers = numbers;
  }

  run({ n }) {
    return this.numbers.next(n);
  }
}
Reflect.defineMetadata('design:paramtypes', [Numbers], Adds);
Injectable()(Adds);
AgentHandler('adds')(Adds);

class JobsModule {}
Module({ providers: [Numbers, Adds] })(JobsModule);
module.exports = { JobsModule, Adds };
