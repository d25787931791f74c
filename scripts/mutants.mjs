// `npm run mutants`: plants known defects, one at a time, in a copy of the checkout, and runs the tests that should see each. A
// defect that no test sees is a survivor: a promise without a guard.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { findByEnvironment, findByFolder, signal } from './lib/processes.mjs';
import { endRunning, run } from './lib/run.mjs';
import { ROOT, setupForTests, SetupError } from './lib/setup.mjs';
import { MUTANTS } from './mutants/index.mjs';

const USAGE = `npm run mutants [-- OPTIONS]
  --only TEXT    only those whose id contains TEXT; may be given more than once
  --check        only look whether each text is still found, and found once
  --sound        run the tests of each on the unchanged copy instead: they must pass there
  --again        also those that have a result for the same defect, source and tests
  --table        print the list with its results as Markdown
  --json         one JSON object a line
`;
/** The time limit of one run of jest. A run that takes longer counts as caught. Milliseconds. */
const RUN_MS = 600_000;
const RESULTS = join(ROOT, '.belay', 'mutants.json');
/** The parts that a copy needs; the others are generated, or no test reads them. */
const PARTS = [
  'apps',
  'libs',
  'test',
  'bench',
  'scripts',
  'docs',
  'examples',
  'dist',
  '.oxlintrc.json',
  'README.md',
  'CHANGELOG.md',
  'package.json',
  'package-lock.json',
  'jest.config.cjs',
  'tsconfig.json',
  'tsconfig.build.json',
];

const options = readOptions(process.argv.slice(2));
const cookie = { name: 'BELAY_TEST_RUN', value: `mutants-${process.pid}-${Date.now()}` };
let copy;
for (const [name, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
])
  process.on(name, () => {
    endRunning('SIGTERM');
    endLeftovers();
    if (copy !== undefined) rmSync(copy, { recursive: true, force: true });
    process.exit(code);
  });

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? error)}\n`);
  process.exitCode = 1;
} finally {
  endLeftovers();
  if (copy !== undefined) rmSync(copy, { recursive: true, force: true });
}

async function main() {
  const wanted = MUTANTS.filter(
    ({ id }) => options.only.length === 0 || options.only.some((text) => id.includes(text)),
  );
  if (wanted.length === 0) throw new SetupError('No such mutant. --check lists them.');
  const lost = wanted.flatMap((mutant) => faultOf(mutant) ?? []);
  for (const line of lost) process.stderr.write(`${line}\n`);
  if (options.check) {
    process.stdout.write(`${wanted.length} mutants, ${lost.length} that fit no longer\n`);
    return lost.length === 0 ? 0 : 1;
  }
  const results = readResults();
  if (options.table) {
    process.stdout.write(table(wanted, results));
    return 0;
  }
  if (lost.length > 0) return 1;
  const failure = await setupForTests();
  if (failure !== undefined) throw new SetupError(failure);
  copy = makeCopy();
  const found = [];
  for (const [at, mutant] of wanted.entries()) {
    const print = printOf(mutant);
    const known = results[mutant.id];
    const isKnown = !options.again && !options.sound && known?.print === print && known.result === 'killed';
    const outcome = isKnown ? known : options.sound ? await soundness(mutant) : await plant(mutant);
    if (!options.sound && !isKnown) {
      results[mutant.id] = { print, ...outcome };
      writeFileSync(RESULTS, `${JSON.stringify(results, null, 1)}\n`);
    }
    found.push(outcome);
    const line = { id: mutant.id, ...outcome, print: undefined, known: isKnown || undefined };
    process.stdout.write(
      options.json
        ? `${JSON.stringify(line)}\n`
        : `${at + 1}/${wanted.length}  ${outcome.result.padEnd(9)} ${mutant.id}  ${outcome.by ?? ''}\n`,
    );
  }
  const good = options.sound ? 'sound' : 'killed';
  const bad = found.filter(({ result }) => result !== good);
  process.stderr.write(`${found.length} mutants: ${found.length - bad.length} ${good}, ${bad.length} not\n`);
  return bad.length === 0 ? 0 : 1;
}

/** Plants the defect, runs its tests, and removes it. */
async function plant(mutant) {
  const begun = performance.now();
  const restore = write(mutant);
  try {
    const outcome = await runTests(mutant);
    return { ...outcome, seconds: Math.round((performance.now() - begun) / 1000) };
  } finally {
    restore();
  }
}

/** Writes to the source, which unit tests run, and to its compiled file, which programs run. Types are not checked. */
function write({ file, find, put }) {
  const source = join(copy, file);
  const built = join(copy, 'dist', file.replace(/\.ts$/, '.js'));
  const text = readFileSync(source, 'utf8');
  const changed = text.replace(find, () => put);
  const paths = new Map([[source, [text, changed]]]);
  if (file.endsWith('.ts') && existsSync(built))
    paths.set(built, [readFileSync(built, 'utf8'), compile(source, changed)]);
  for (const [path, [, after]] of paths) writeFileSync(path, after);
  return () => {
    for (const [path, [before]] of paths) writeFileSync(path, before);
  };
}

function compile(filename, source) {
  const swc = createRequire(import.meta.url)('@swc/core');
  const { code } = swc.transformSync(source, {
    filename,
    swcrc: false,
    configFile: false,
    jsc: {
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true },
      keepClassNames: true,
      target: 'es2022',
    },
    module: { type: 'commonjs' },
  });
  return code;
}

async function soundness(mutant) {
  const { result, by } = await runTests(mutant);
  return result === 'survived' ? { result: 'sound' } : { result: 'unsound', by };
}

async function runTests({ project, path, title }) {
  if (project !== 'unit') {
    // Programs are bundles of the compiled files.
    const bundled = await run(process.execPath, [join(copy, 'scripts/bundle.mjs')], {
      cwd: copy,
      timeoutMs: RUN_MS,
    });
    if (bundled.code !== 0) return { result: 'killed', by: `no build: ${bundled.ended}` };
  }
  const output = join(copy, 'results.json');
  rmSync(output, { force: true });
  const args = [
    '--selectProjects',
    project,
    `--testPathPatterns=${path}`,
    '--maxWorkers=1',
    '--bail=1',
    '--json',
    `--outputFile=${output}`,
    ...(title === undefined ? [] : ['-t', title]),
  ];
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^BELAY_(?!TEST_)/.test(name)),
  );
  const ran = await run(process.execPath, [join(copy, 'node_modules/jest/bin/jest.js')], {
    args,
    cwd: copy,
    env: { ...env, [cookie.name]: cookie.value },
    timeoutMs: RUN_MS,
  });
  endLeftovers();
  if (!existsSync(output)) return { result: 'killed', by: `no end (${ran.ended})` };
  const report = JSON.parse(readFileSync(output, 'utf8'));
  const failed = report.testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName),
  );
  if (failed.length > 0) return { result: 'killed', by: failed[0] };
  if (report.numRuntimeErrorTestSuites > 0) {
    const message = report.testResults.map((file) => file.message).find(Boolean) ?? '';
    return { result: 'error', by: `a file that cannot run: ${message.slice(0, 500)}` };
  }
  if (report.numPassedTests === 0) return { result: 'error', by: 'no test was run: the pattern fits none' };
  return { result: 'survived' };
}

/** Why the defect cannot be planted; undefined when it can. */
function faultOf({ id, file, find }) {
  const path = join(ROOT, file);
  if (!existsSync(path)) return `${id}: there is no ${file}`;
  const times = readFileSync(path, 'utf8').split(find).length - 1;
  return times === 1 ? undefined : `${id}: its text is found ${times} times in ${file}`;
}

/** The inputs of its result: the defect and its file. */
function printOf(mutant) {
  return createHash('sha256')
    .update(JSON.stringify(mutant))
    .update(readFileSync(join(ROOT, mutant.file)))
    .digest('hex')
    .slice(0, 16);
}

/** Sources are copied, dependencies linked: no defect is ever in the checkout itself. */
function makeCopy() {
  const made = mkdtempSync(join(tmpdir(), 'belay-mutants-'));
  for (const part of PARTS) cpSync(join(ROOT, part), join(made, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(made, 'node_modules'));
  // The server on which tests run, if one was fetched.
  const server = join(ROOT, '.belay', 'server');
  if (existsSync(server)) {
    mkdirSync(join(made, '.belay'), { recursive: true, mode: 0o700 });
    symlinkSync(server, join(made, '.belay', 'server'));
  }
  return made;
}

/** A defect in how trees are ended leaves agents behind. They work in the copy, and may not carry the cookie. */
function endLeftovers() {
  for (const each of findByEnvironment(cookie.name, cookie.value)) signal(each, 'SIGKILL');
  if (copy === undefined) return;
  for (const each of findByFolder(copy)) signal(each, 'SIGKILL');
}

function readResults() {
  mkdirSync(dirname(RESULTS), { recursive: true, mode: 0o700 });
  return existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {};
}

function table(mutants, results) {
  const cell = (text) => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ');
  const rows = mutants.map(({ id, what, path, title }) => {
    const tests = title === undefined ? path : `${path}: ${title}`;
    return `| ${id} | ${cell(what)} | ${cell(tests)} | ${results[id]?.result ?? 'not run'} |`;
  });
  const count = (result) => mutants.filter(({ id }) => (results[id]?.result ?? 'not run') === result).length;
  const kinds = ['killed', 'survived', 'error', 'not run'].map((result) => `${count(result)} ${result}`);
  const head = ['| defect | what it breaks | seen by | result |', '| --- | --- | --- | --- |'];
  return [`${mutants.length} defects: ${kinds.join(', ')}.`, '', ...head, ...rows, ''].join('\n');
}

function readOptions(args) {
  const found = { only: [], check: false, sound: false, again: false, table: false, json: false };
  while (args.length > 0) {
    const name = args.shift().replace(/^--/, '');
    if (name === 'only' && args.length > 0) found.only.push(args.shift());
    else if (name !== 'only' && name in found) found[name] = true;
    else {
      process.stderr.write(USAGE);
      process.exit(2);
    }
  }
  return found;
}
