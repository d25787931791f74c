'use strict';
// A test file fails when it leaves a child process: the next file in the same process of Jest would count that child as its own.
const { readFileSync, readdirSync } = require('node:fs');
const { setTimeout: pause } = require('node:timers/promises');
const { TestEnvironment } = require('jest-environment-node');

/** A child that a test has signalled ends within this. Milliseconds. */
const GONE_WITHIN_MS = 10_000;
const LOOK_MS = 20;

module.exports = class LeavesNoChild extends TestEnvironment {
  async handleTestEvent({ name }, state) {
    if (name !== 'run_finish') return;
    const giveUpAt = performance.now() + GONE_WITHIN_MS;
    while (children().length > 0 && performance.now() < giveUpAt) await pause(LOOK_MS);
    const left = children().map(describeProcess);
    if (left.length > 0)
      state.unhandledErrors.push(new Error(`child processes were left: ${left.join(', ')}`));
  }
};

/** The kernel lists children under the thread that started them. */
function children() {
  return readdirSync('/proc/self/task').flatMap((thread) => {
    try {
      return readFileSync(`/proc/self/task/${thread}/children`, 'utf8').split(' ').filter(Boolean);
    } catch {
      return []; // the thread has ended
    }
  });
}

function describeProcess(pid) {
  try {
    const [state] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return `process ${pid} in state ${state} (${command})`;
  } catch {
    return `process ${pid}`;
  }
}
