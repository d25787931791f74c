'use strict';
/**
 * Turns lua/*.lua into src/scripts/generated.ts, includes resolved, so that neither the build nor Jest has files to
 * copy. `node libs/valkey/generate-scripts.cjs` writes it; with --check it only compares (a test does).
 */
const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, 'lua');
const target = path.join(__dirname, 'src/scripts/generated.ts');

function resolveIncludes(file) {
  const seen = new Set();
  const expand = (text) =>
    text.replace(/^--!include (\w+)$/gm, (_, name) => {
      if (seen.has(name)) throw new Error(`${file} includes ${name} twice`);
      seen.add(name);
      return expand(fs.readFileSync(path.join(root, 'include', `${name}.lua`), 'utf8').trimEnd());
    });
  return expand(fs.readFileSync(path.join(root, file), 'utf8'));
}

function generate() {
  const files = fs
    .readdirSync(root)
    .filter((file) => file.endsWith('.lua'))
    .sort();
  const entries = files.map(
    (file) => `  ${path.basename(file, '.lua')}: ${JSON.stringify(resolveIncludes(file))},`,
  );
  return [
    '// Generated from libs/valkey/lua by generate-scripts.cjs. Do not edit: change the .lua file and run it again.',
    '',
    'export const SCRIPT_SOURCES = {',
    ...entries,
    '} as const;',
    '',
    '/** The name of a script: its file in libs/valkey/lua. */',
    'export type ScriptName = keyof typeof SCRIPT_SOURCES;',
    '',
  ].join('\n');
}

const text = generate();
if (process.argv.includes('--check')) {
  if (fs.readFileSync(target, 'utf8') !== text) {
    console.error('libs/valkey/src/scripts/generated.ts is stale: run node libs/valkey/generate-scripts.cjs');
    process.exitCode = 1;
  }
} else {
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.writeFileSync(target, text);
}
