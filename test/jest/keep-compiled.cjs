'use strict';
// Jest loads the packages anew for every test file, and V8 compiles them anew each time: 4 MB of sources for a spec that loads
// libs/killswitch. Each process of Jest keeps V8's code of the packages from its first file on. Belay's own code is compiled
// each time: coverage is counted in it.
const vm = require('node:vm');

const { compileFunction } = vm;
/** By file: the text that was compiled, and V8's code of it. */
const kept = new Map();

vm.compileFunction = function compile(text, parameters, options) {
  const { filename } = options ?? {};
  if (filename === undefined || !filename.includes('/node_modules/'))
    return compileFunction(text, parameters, options);
  const known = kept.get(filename);
  if (known !== undefined && known.text === text) {
    const compiled = compileFunction(text, parameters, { ...options, cachedData: known.code });
    // V8 has compiled the text itself where it refused the code.
    if (compiled.cachedDataRejected === true) kept.delete(filename);
    return compiled;
  }
  const compiled = compileFunction(text, parameters, { ...options, produceCachedData: true });
  if (compiled.cachedDataProduced === true) kept.set(filename, { text, code: compiled.cachedData });
  return compiled;
};
