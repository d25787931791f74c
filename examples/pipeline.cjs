// A pipeline of two nodes. The first goes on from its checkpoint; the second publishes by one act that may be repeated.
require('reflect-metadata');
const { renameSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const { AgentHandler } = require('belayd/nest');

class Transform {
  async run({ rows }, context) {
    const from = context.lastCheckpoint ?? { next: 0, sum: 0 };
    let sum = from.sum;
    for (let row = from.next; row < rows.length; row++) {
      context.signal.throwIfAborted(); // a stop ends it between two rows
      sum += rows[row];
      context.checkpoint({ next: row + 1, sum }); // the position and the result so far, in one
      await pause(150); // the work
    }
    return { sum, resumedFrom: from.next };
  }
}
AgentHandler('transform')(Transform);

class Publish {
  run({ directory }, context) {
    const { sum } = context.upstream.transform;
    // Under a name of this attempt, then in place at once: no reader sees half of it, and a second time changes nothing.
    const draft = join(directory, `report.${context.agentId}`);
    writeFileSync(draft, JSON.stringify({ sum }));
    renameSync(draft, join(directory, 'report.json'));
    return { published: sum };
  }
}
AgentHandler('publish')(Publish);
module.exports = { Transform, Publish };
