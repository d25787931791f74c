'use strict';
// Runs one bundle to its end, and keeps the code that V8 made of it by then, functions that ran included. Arguments: the
// folder, the bundle's name, and those of the program. The source is read and wrapped as the program's loader does it
// (scripts/bundle.mjs).
const { readFileSync, renameSync, writeFileSync } = require('node:fs');
const { wrap } = require('node:module');
const { dirname, join } = require('node:path');
const { constants, Script } = require('node:vm');

const [folder, name, ...args] = process.argv.slice(2);
const filename = join(folder, `${name}.js`);
const script = new Script(wrap(readFileSync(filename, 'latin1')), {
  filename,
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
process.on('exit', () => {
  writeFileSync(join(folder, `${name}.code.new`), script.createCachedData());
  renameSync(join(folder, `${name}.code.new`), join(folder, `${name}.code`));
});
const beside = join(dirname(folder), `${name}.js`);
process.argv = [process.argv[0], beside, ...args];
script.runInThisContext()(exports, require, module, beside, dirname(folder));
