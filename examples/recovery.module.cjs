// The handlers of docs/recovery.md as one module.
const { Module } = require('@nestjs/common');
const { AgentLoop } = require('./agent-loop.cjs');
const { Publish, Transform } = require('./pipeline.cjs');
const { Purchase } = require('./saga.cjs');

class RecoveryModule {}
Module({ providers: [AgentLoop, Transform, Publish, Purchase] })(RecoveryModule);
module.exports = { RecoveryModule };
