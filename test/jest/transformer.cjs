'use strict';
// Belay's code compiles to CommonJS, but Nest 12 ships ES modules only, which Jest on Node 20 cannot require. So one
// transformer serves both: Belay's sources through swc with decorators; ES modules of dependencies through swc to CommonJS,
// wrapped in a block because they declare names (`require`, `__dirname`) that the CommonJS wrapper already has as parameters.
// CommonJS dependencies pass untouched.
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const swc = require('@swc/core');
require('./keep-compiled.cjs');

const packageTypes = new Map();

function packageType(directory) {
  const known = packageTypes.get(directory);
  if (known) return known;
  const manifest = path.join(directory, 'package.json');
  let type;
  if (fs.existsSync(manifest)) type = JSON.parse(fs.readFileSync(manifest, 'utf8')).type ?? 'commonjs';
  else {
    const parent = path.dirname(directory);
    type = parent === directory ? 'commonjs' : packageType(parent);
  }
  packageTypes.set(directory, type);
  return type;
}

function kindOf(file) {
  if (file.endsWith('.ts')) return 'ours';
  if (file.endsWith('.mjs')) return 'esm';
  if (file.endsWith('.cjs')) return 'cjs';
  return packageType(path.dirname(file)) === 'module' ? 'esm' : 'cjs';
}

const own = {
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    keepClassNames: true,
    target: 'es2022',
  },
  module: { type: 'commonjs' },
  sourceMaps: 'inline',
};
const foreign = {
  jsc: { parser: { syntax: 'ecmascript' }, target: 'es2022' },
  module: { type: 'commonjs' },
};

module.exports = {
  getCacheKey(source, file, options) {
    return crypto
      .createHash('sha256')
      .update(fs.readFileSync(__filename))
      .update(kindOf(file))
      .update(String(options.instrument))
      .update(file)
      .update(source)
      .digest('hex');
  },
  process(source, file) {
    const kind = kindOf(file);
    if (kind === 'cjs') return { code: source };
    if (kind === 'ours')
      return swc.transformSync(source, { ...own, filename: file, swcrc: false, configFile: false });
    const { code } = swc.transformSync(source, {
      ...foreign,
      filename: file,
      swcrc: false,
      configFile: false,
    });
    return { code: `"use strict";{ ${code.replace(/^"use strict";/, '')}\n}` };
  },
};
