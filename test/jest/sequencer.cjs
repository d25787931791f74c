'use strict';
// Jest begins with the files that took longest in the run before, and where there was none, as in CI, with the largest. Some
// small files take long: they ran alone at the end, beside an idle core.
const { default: Sequencer } = require('@jest/test-sequencer');

const LONG = /\/(bench|failover|full-log|image|isolation-user|nest-cli|package|resharding|trees)\.test\.ts$/;

module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    const sorted = super.sort(tests);
    if (sorted.some(({ duration }) => duration !== undefined)) return sorted;
    const isLong = ({ path }) => LONG.test(path);
    return [...sorted.filter(isLong), ...sorted.filter((test) => !isLong(test))];
  }
};
