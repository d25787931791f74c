// Makes the programs of dist/programs from the compiler's output: each is one file with all its imports, and beside it the code
// that V8 made of it. So a start neither looks for a thousand modules nor compiles them (ADR 0018). Does nothing when nothing
// changed. scripts/lib/setup.mjs runs it after the compiler.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const PROGRAMS = join(ROOT, 'dist', 'programs');
/** The bundles and V8's code for them, by a hash of the bundle, so that old code is never used for a new bundle. */
const CODE = join(PROGRAMS, 'code');
const STAMP = join(PROGRAMS, '.stamp.json');
const KEEP_CODE = join(ROOT, 'scripts', 'lib', 'keep-code.cjs');
const LOAD_MS = 60_000;

/** Loads all of a service, and ends it before it does anything. */
const NO_SETTINGS = { BELAY_VALKEY_URL: 'none' };
/**
 * With `args` and `env`, and without input, a program loads itself and ends. `flags` are the flags of Node with which it always
 * starts: V8 accepts only code that was made under the same flags.
 */
const ENTRIES = [
  { name: 'belay', entry: 'dist/apps/cli/src/main.js', args: ['--help'] },
  { name: 'orchestrator', entry: 'dist/apps/orchestrator/src/main.js', env: NO_SETTINGS },
  { name: 'worker', entry: 'dist/apps/worker/src/main.js', env: NO_SETTINGS },
  {
    // The worker finds it beside its own file, and starts it with these flags: libs/spawner/src/process/guardian.ts.
    name: 'guardian-main',
    entry: 'dist/libs/spawner/src/process/guardian-main.js',
    flags: ['--max-old-space-size=32', '--max-semi-space-size=1', '--v8-pool-size=1'],
  },
];
/** The file of dist/package that an installed program loads (scripts/package.mjs). */
const MAIN_OF = {
  belay: 'belay-main',
  orchestrator: 'orchestrator-main',
  worker: 'worker-main',
  'guardian-main': 'guardian-main',
};
/** Native packages, which have files of their own, and optional ones of Nest's and Fastify's, which are not installed. */
const EXTERNAL = [
  'koffi',
  'msgpackr-extract',
  '@nestjs/microservices',
  '@nestjs/microservices/*',
  '@nestjs/websockets',
  '@nestjs/websockets/*',
  '@nestjs/platform-express',
  'class-transformer',
  'class-transformer/*',
  'class-validator',
  '@fastify/multipart',
  '@fastify/static',
  '@fastify/view',
];

if (!isUpToDate()) {
  const built = await bundle();
  mkdirSync(CODE, { recursive: true });
  const kept = new Set();
  for (const { name, flags, args, env } of ENTRIES) {
    const text = built.texts.get(name);
    const file = `${name}-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
    writeAtomically(join(CODE, `${file}.js`), text);
    keepCode(file, flags, args, env);
    writeAtomically(join(PROGRAMS, `${name}.js`), loader(name, file), 0o755);
    kept.add(`${file}.js`).add(`${file}.code`);
  }
  for (const old of readdirSync(CODE)) if (!kept.has(old)) rmSync(join(CODE, old));
  writeAtomically(STAMP, JSON.stringify({ node: process.version, inputs: statsOf(built.inputs) }));
}

async function bundle() {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: Object.fromEntries(ENTRIES.map(({ name, entry }) => [name, entry])),
    outdir: PROGRAMS,
    write: false,
    metafile: true,
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    format: 'cjs',
    // Nest names providers, and errors name themselves, after their classes.
    keepNames: true,
    external: EXTERNAL,
    // A script that V8 loads from kept code has lost its loader, so an import() in it fails: these become calls of require.
    supported: { 'dynamic-import': false },
    define: { 'import.meta.url': 'importMetaUrl' },
    banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href;' },
    logLevel: 'error',
  });
  const texts = new Map(
    outputFiles.map(({ path, text }) => [
      relative(PROGRAMS, path).replace(/\.js$/, ''),
      text.replace(/^#!.*\n/, ''),
    ]),
  );
  const own = ['scripts/bundle.mjs', 'scripts/lib/keep-code.cjs', 'package-lock.json'];
  return { texts, inputs: [...own, ...Object.keys(metafile.inputs)] };
}

/** A program that cannot load fails the build here. */
function keepCode(file, flags = [], args = [], env = {}) {
  const { PATH, HOME } = process.env;
  const ran = spawnSync(process.execPath, [...flags, KEEP_CODE, CODE, file, ...args], {
    cwd: ROOT,
    env: { PATH, HOME, ...env },
    input: '',
    encoding: 'utf8',
    timeout: LOAD_MS,
  });
  if (!readdirSync(CODE).includes(`${file}.code`))
    throw new Error(`${file} could not be loaded:\n${ran.stdout}${ran.stderr}`);
}

/**
 * V8 itself checks whether the code fits (version, flags, length of the source), and compiles where it does not. So does
 * another Node, or this one where the file is missing. The published package has neither bundle nor code (ADR 0021): there the
 * program is the one of dist/package, beside the installed packages.
 */
function loader(name, file) {
  return `#!/usr/bin/env node
'use strict';
const { readFileSync } = require('node:fs');
const { wrap } = require('node:module');
const { join } = require('node:path');
const { Script } = require('node:vm');
const filename = join(__dirname, 'code', '${file}.js');
const read = (path, encoding) => {
  try {
    return readFileSync(path, encoding);
  } catch {}
};
const source = read(filename, 'latin1');
if (source === undefined) require('../package/lib/${MAIN_OF[name]}.js');
else {
  const cachedData = read(join(__dirname, 'code', '${file}.code'));
  const script = new Script(wrap(source), { filename, cachedData });
  script.runInThisContext()(exports, require, module, __filename, __dirname);
}
`;
}

function isUpToDate() {
  try {
    const { node, inputs } = JSON.parse(readFileSync(STAMP, 'utf8'));
    const code = readdirSync(CODE);
    return (
      node === process.version &&
      JSON.stringify(statsOf(Object.keys(inputs))) === JSON.stringify(inputs) &&
      ENTRIES.every(({ name }) => statSync(join(PROGRAMS, `${name}.js`)).isFile()) &&
      code.length === 2 * ENTRIES.length
    );
  } catch {
    return false;
  }
}

function statsOf(paths) {
  return Object.fromEntries(
    paths.map((path) => {
      const { mtimeMs, size } = statSync(join(ROOT, path));
      return [path, `${mtimeMs} ${size}`];
    }),
  );
}

/** Another process may be starting the program. */
function writeAtomically(path, text, mode = 0o644) {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}
