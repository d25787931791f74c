'use strict';
/** One process for one piece of work, without Belay: node bare.cjs N. */
const sandboxed = require('./sandboxed.cjs');

void sandboxed({ data: { n: Number(process.argv[2]) } }).then(() => process.exit());
