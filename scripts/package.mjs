// Makes dist/package, the published library, from the compiler's output (ADR 0021). Each library becomes one file, and so does
// apps/embedded with its parts of the other apps; third-party packages stay outside. Beside them are the entry points of
// package.json's "exports", for require and for import, and the declarations that these lead to. Does nothing when nothing
// changed. scripts/lib/setup.mjs runs it after the compiler.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const DIST = join(ROOT, 'dist');
const PACKAGE = join(DIST, 'package');
const STAMP = join(DIST, '.package.json');
/** The folder of the bundles in dist/package, in which they find each other. */
const LIB = 'lib';

/** Each entry point, by its name in "exports": its declarations, and the expression that gives its module. */
const DOORS = {
  index: { types: 'apps/embedded/src/index', from: "require('./lib/embedded.js').index" },
  nest: { types: 'apps/embedded/src/nest', from: "require('./lib/embedded.js').nest" },
  testing: { types: 'apps/embedded/src/testing', from: "require('./lib/embedded.js').testing" },
  client: { types: 'libs/client/src/index', from: "require('./lib/client.js')" },
  contracts: { types: 'libs/contracts/src/index', from: "require('./lib/contracts.js')" },
};
/** The entry points that the programs of dist/programs load where the package is installed (scripts/bundle.mjs). */
const PROGRAMS = {
  'belay-main': 'apps/cli/src/main.js',
  'orchestrator-main': 'apps/orchestrator/src/main.js',
  'worker-main': 'apps/worker/src/main.js',
  // The spawner looks for it beside its own file: libs/spawner/src/process/guardian.ts.
  'guardian-main': 'libs/spawner/src/process/guardian-main.js',
  // A worker with handlers looks for it beside its own file: apps/embedded/src/handlers/handler-programs.ts.
  'handler-main': 'apps/embedded/src/handlers/handler-main.js',
};
/**
 * The entry points of apps/embedded in one file, so that a class is the same class by either of them. Each is loaded on demand:
 * the process of a handler needs little of what the application needs.
 */
const EMBEDDED = ['index', 'nest', 'testing']
  .map((name) => getter(name, `require('./apps/embedded/src/${name}.js')`))
  .join('\n');
/** Files that only re-export names. Each name of these is loaded at its first use. */
const HANDS_ON = /\/(contracts\/src\/(.+\/)?index|embedded\/src\/(nest|both-doors))\.js$/;

if (!isUpToDate()) {
  const bundles = await bundle();
  const types = declarations();
  const scripts = luaFiles();
  const files = new Map([...bundles.files, ...types.files, ...doors(), ...scripts.files]);
  for (const [path, text] of files) writeWhereChanged(path, text);
  for (const [path, text] of importDoors()) {
    files.set(path, text);
    writeWhereChanged(path, text);
  }
  for (const path of filesBelow(PACKAGE)) if (!files.has(path)) rmSync(join(PACKAGE, path));
  const inputs = [
    ...bundles.inputs,
    ...types.inputs,
    ...scripts.inputs,
    'scripts/package.mjs',
    'package-lock.json',
  ];
  writeFileSync(STAMP, JSON.stringify({ inputs: statsOf(inputs), outputs: [...files.keys()] }));
}

async function bundle() {
  const libraries = readdirSync(join(ROOT, 'libs')).filter((name) => exists(`libs/${name}/src/index.js`));
  const entryPoints = {
    ...Object.fromEntries(libraries.map((name) => [name, `./libs/${name}/src/index.js`])),
    ...Object.fromEntries(Object.entries(PROGRAMS).map(([name, path]) => [name, `./${path}`])),
    embedded: 'belay:embedded',
  };
  const { outputFiles, metafile } = await build({
    absWorkingDir: DIST,
    entryPoints,
    outdir: LIB,
    write: false,
    metafile: true,
    bundle: true,
    packages: 'external',
    platform: 'node',
    target: 'node20.19',
    format: 'cjs',
    // Nest names providers, and errors name themselves, after their classes.
    keepNames: true,
    // import() of a file with CommonJS exports would give its names only as `default`.
    supported: { 'dynamic-import': false },
    plugins: [{ name: 'belay', setup: resolveOurs }],
    logLevel: 'error',
  });
  return {
    files: outputFiles.map(({ path, text }) => [
      `${LIB}/${posix.basename(path)}`,
      text.replace(/^#!.*\n/, ''),
    ]),
    inputs: Object.keys(metafile.inputs)
      .filter((path) => !path.includes(':'))
      .map((path) => `dist/${path}`),
  };
}

/** The Lua scripts as one file beside libs/valkey, which reads it there: libs/valkey/src/scripts/sources.ts. */
function luaFiles() {
  const { readLuaFiles } = createRequire(import.meta.url)(join(DIST, 'libs/valkey/src/scripts/sources.js'));
  const texts = readLuaFiles(join(ROOT, 'libs/valkey/lua'));
  return {
    files: [[`${LIB}/lua.json`, JSON.stringify(texts)]],
    inputs: Object.keys(texts).map((name) => `libs/valkey/lua/${name}.lua`),
  };
}

function resolveOurs({ onResolve, onLoad }) {
  onResolve({ filter: /^#libs\// }, ({ path }) => ({
    path: `./${path.slice('#libs/'.length)}.js`,
    external: true,
  }));
  onResolve({ filter: /^belay:embedded$/ }, ({ path }) => ({ path, namespace: 'belay' }));
  onLoad({ filter: /.*/, namespace: 'belay' }, () => ({ contents: EMBEDDED, resolveDir: DIST }));
  onLoad({ filter: HANDS_ON }, ({ path }) => ({ contents: lazily(path), resolveDir: dirname(path) }));
}

/** The same names as in a compiled file of nothing but `export … from`. */
function lazily(path) {
  const text = readFileSync(path, 'utf8');
  const load = createRequire(path);
  const lines = new Map();
  const add = (name, from) => {
    if (name !== 'default' && !lines.has(name)) lines.set(name, getter(name, `require("${from}").${name}`));
  };
  const modules = new Map(
    [...text.matchAll(/^var (\w+) = require\("([^"]+)"\);$/gm)].map(([, as, from]) => [as, from]),
  );
  for (const [, name, as, theirs] of text.matchAll(
    /^Object\.defineProperty\(exports, "(\w+)", .* return (\w+)\.(\w+); \} \}\);$/gm,
  )) {
    if (name !== theirs) throw new Error(`${path} hands ${theirs} on as ${name}: package.mjs cannot do that`);
    add(name, modules.get(as));
  }
  for (const [, from] of text.matchAll(/^__exportStar\(require\("([^"]+)"\), exports\);$/gm))
    for (const name of Object.keys(load(from))) add(name, from);
  return [
    "'use strict';",
    "Object.defineProperty(exports, '__esModule', { value: true });",
    ...lines.values(),
  ].join('\n');
}

function getter(name, expression) {
  return `Object.defineProperty(exports, '${name}', { enumerable: true, get: () => ${expression} });`;
}

/**
 * The declarations to which the entry points lead, and no others. `#libs/NAME` becomes a path, since only this package knows
 * that name.
 */
function declarations() {
  const files = new Map();
  const follow = (module) => {
    const path = exists(`${module}.d.ts`) ? `${module}.d.ts` : `${module}/index.d.ts`;
    if (files.has(`types/${path}`)) return path;
    files.set(`types/${path}`, '');
    const text = importsOfModules(
      readFileSync(join(DIST, path), 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''),
    );
    files.set(
      `types/${path}`,
      text.replaceAll(
        /\b(from |import\()(["'])(#libs\/|\.)([^"']+)\2/g,
        (_all, before, quote, kind, rest) => {
          const wanted =
            kind === '.' ? posix.join(posix.dirname(path), `.${rest}`) : `libs/${rest}/src/index`;
          const found = posix.relative(posix.dirname(path), follow(wanted)).replace(/\.d\.ts$/, '');
          return `${before}${quote}${found.startsWith('.') ? found : `./${found}`}${quote}`;
        },
      ),
    );
    return path;
  };
  for (const { types } of Object.values(DOORS)) follow(types);
  return { files, inputs: [...files.keys()].map((path) => path.replace(/^types/, 'dist')) };
}

/**
 * The declarations are those of CommonJS. With `moduleResolution: node16` such a file may name a type of an ES module, such as
 * Nest, only as a type and with the mode of its resolution.
 */
function importsOfModules(text) {
  return text.replaceAll(
    /^import (?:type )?(\{[^}]*\}) from (["'])([^."'#][^"']*)\2;$/gm,
    (statement, names, _quote, name) =>
      isModuleOnly(name)
        ? `import type ${names.replaceAll(/\btype /g, '')} from '${name}' with { 'resolution-mode': 'import' };`
        : statement,
  );
}

/** Whether a package is only an ES module. */
function isModuleOnly(name) {
  const [scope, rest] = name.split('/');
  const home = scope.startsWith('@') ? `${scope}/${rest}` : scope;
  const manifest = join(ROOT, 'node_modules', home, 'package.json');
  const { type, exports: doorsOfIt = {} } = JSON.parse(readFileSync(manifest, 'utf8'));
  return type === 'module' && !JSON.stringify(doorsOfIt).includes('"require"');
}

function doors() {
  return Object.entries(DOORS).flatMap(([name, { types, from }]) => [
    [`${name}.js`, `'use strict';\nmodule.exports = ${from};\n`],
    [`${name}.d.ts`, `export * from './types/${types}';\n`],
    [`${name}.d.mts`, `export * from './${name}.js';\n`],
  ]);
}

/**
 * Loads each entry point and writes out its names, since an importer cannot see those of a bundle. A module that cannot load
 * fails the build here.
 */
function importDoors() {
  const require = createRequire(join(PACKAGE, 'doors.js'));
  return Object.keys(DOORS).map((name) => {
    const names = Object.keys(require(`./${name}.js`)).sort();
    return [
      `${name}.mjs`,
      `import door from './${name}.js';\nexport const {\n${names.map((each) => `  ${each},\n`).join('')}} = door;\n`,
    ];
  });
}

function isUpToDate() {
  try {
    const { inputs, outputs } = JSON.parse(readFileSync(STAMP, 'utf8'));
    return (
      JSON.stringify(statsOf(Object.keys(inputs))) === JSON.stringify(inputs) &&
      JSON.stringify(filesBelow(PACKAGE).sort()) === JSON.stringify(outputs.sort())
    );
  } catch {
    return false;
  }
}

function exists(path) {
  return statSync(join(DIST, path), { throwIfNoEntry: false }) !== undefined;
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

function statsOf(paths) {
  return Object.fromEntries(
    paths.map((path) => {
      const { mtimeMs, size } = statSync(join(ROOT, path));
      return [path, `${mtimeMs} ${size}`];
    }),
  );
}

/** Another process may be loading the file. */
function writeWhereChanged(path, text) {
  const target = join(PACKAGE, path);
  try {
    if (readFileSync(target, 'utf8') === text) return;
  } catch {
    mkdirSync(dirname(target), { recursive: true });
  }
  writeFileSync(`${target}.new`, text);
  renameSync(`${target}.new`, target);
}
