// `npm test`: everything that must pass before a change lands; CI runs the same. All steps run even when an earlier one fails.
// The last line is the count. `npm test -- ARGS` passes ARGS to jest and runs only jest.
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { runJest } from './lib/jest-run.mjs';
import { findByEnvironment, signal } from './lib/processes.mjs';
import { endRunning, run, showProgress, tail } from './lib/run.mjs';
import { COMPILER, ROOT, SetupError, setupForTests } from './lib/setup.mjs';

const CORES = availableParallelism();
/**
 * More test files at a time than there are cores, since they wait: with one more, two cores were idle for a quarter of the time.
 * Not many more, since every fleet has processes of its own.
 */
const WORKERS = Math.min(CORES + 2, 8);
const CHECK_TIMEOUT_MS = 600_000;
/**
 * The specs of the libraries with coverage bounds (jest.config.cjs) cover these completely. Counting the coverage of all other
 * files as well took as long again as the tests.
 */
const COVERED = '/libs/(contracts|lifecycle)/';
/** Processes that the tests started have this long to end after the tests. Milliseconds. */
const GONE_WITHIN_MS = 12_000;
/** Every process of this run has it in its environment, however deep it was started. */
const COOKIE = { name: 'BELAY_TEST_RUN', value: randomBytes(12).toString('hex') };

/** @type {{ passed: number, failed: number, skipped: number, failures: string[] }} */
const total = { passed: 0, failed: 0, skipped: 0, failures: [] };
let interrupted = false;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => void interrupt(name));

try {
  const buildFailure = await setupForTests();
  if (buildFailure !== undefined) fail(buildFailure);
  await runSteps(process.argv.slice(2));
} catch (error) {
  fail(error instanceof SetupError ? error.message : (error?.stack ?? String(error)));
}
if (!interrupted) {
  await endLeftovers();
  finish();
}

async function runSteps(jestArgs) {
  const env = testEnvironment();
  if (jestArgs.length > 0) {
    await findServer();
    return add(await runJest(`jest ${jestArgs.join(' ')}`, jestArgs, { env }));
  }
  // Before any test: a fresh checkout may fetch a server, which takes longer than a test waits.
  await findServer();
  if (interrupted) return;
  // One after the other: side by side they give two cores a load of 15, under which tests that wait for agents fail now and
  // then.
  await checksAndUnitTests(env);
  if (!interrupted) await integrationTests(env);
}

async function checksAndUnitTests(env) {
  const modules = join(ROOT, 'node_modules');
  const lint = ['--config', '.oxlintrc.json', '--type-aware', '--max-warnings', '0'];
  const prettier = join(modules, 'prettier/bin/prettier.cjs');
  // Prettier uses one core, and has done its work by the time that the other two have.
  const formatted = runCheck([prettier, '--check', '--log-level', 'warn', '.'], env);
  const linted = ['apps', 'libs', 'test', 'bench', 'scripts'];
  await check('lint', [join(modules, '.bin/oxlint'), ...lint, ...linted], env);
  await check('types', [COMPILER, '-p', 'tsconfig.json', '--noEmit'], env);
  if (interrupted) return;
  await report('format', formatted);
  const args = ['--selectProjects', 'unit', `--maxWorkers=${WORKERS}`];
  const coverage = ['--testPathPatterns', COVERED, '--coverage', '--coverageReporters', 'text-summary'];
  add(await runJest('unit tests of what is covered whole', [...args, ...coverage], { env, coverage: true }));
  if (interrupted) return;
  add(await runJest('unit tests of the rest', [...args, '--testPathIgnorePatterns', COVERED], { env }));
}

async function integrationTests(env) {
  const args = ['--selectProjects', 'integration', `--maxWorkers=${WORKERS}`];
  add(await runJest('integration tests', args, { env }));
}

/** The caller's own Belay settings would change the tests; BELAY_TEST_* are for the tests. */
function testEnvironment() {
  const kept = Object.entries(process.env).filter(([name]) => !/^BELAY_(?!TEST_)/.test(name));
  return { ...Object.fromEntries(kept), [COOKIE.name]: COOKIE.value };
}

async function check(name, args, env) {
  if (interrupted) return;
  await report(name, runCheck(args, env));
}

function runCheck(args, env) {
  return run(process.execPath, args, { cwd: ROOT, env, timeoutMs: CHECK_TIMEOUT_MS });
}

/** Shows a check until it has ended, and counts it. */
async function report(name, running) {
  const done = showProgress(name);
  const ran = await running;
  done(ran.code === 0 ? 'ok' : 'failed');
  if (ran.code === 0) total.passed++;
  else {
    process.stdout.write(`${tail(ran.output, 60)}\n`);
    fail(`${name}: ${ran.ended}`);
  }
}

/** Fetches a server program once and with progress, before many tests need one at the same time. */
async function findServer() {
  try {
    const localServer = createRequire(import.meta.url)(join(ROOT, 'dist/libs/local-server/src/index.js'));
    const binary = await localServer.resolveServerBinary({
      report: (line) => process.stdout.write(`${line}\n`),
    });
    process.stdout.write(
      `tests run against ${binary.version.name} ${binary.version.version} (${binary.source})\n`,
    );
  } catch (error) {
    fail(`server: ${error.message}`);
  }
}

/** A process that a test started and did not end is a fault of the test or of the product: either way it is a failure. */
async function endLeftovers() {
  const find = () => findByEnvironment(COOKIE.name, COOKIE.value, join(ROOT, 'dist', 'programs'));
  const deadline = performance.now() + GONE_WITHIN_MS;
  const mayWait = () => performance.now() < deadline && !interrupted;
  let left = find();
  while (left.length > 0 && mayWait()) {
    await pause(50);
    left = find();
  }
  if (left.length === 0) return;
  if (!interrupted)
    fail(`left running by the tests:\n${left.map((each) => `  ${each.pid}  ${each.command}`).join('\n')}`);
  for (const [name, waitMs] of [
    ['SIGTERM', 3_000],
    ['SIGKILL', 3_000],
  ]) {
    for (const each of left) signal(each, name);
    const until = performance.now() + waitMs;
    while (left.length > 0 && performance.now() < until) {
      await pause(50);
      left = find();
    }
  }
}

async function interrupt(name) {
  if (interrupted) return;
  interrupted = true;
  endRunning('SIGTERM');
  await endLeftovers();
  process.stdout.write(`\ninterrupted by ${name}; what was started is ended\n`);
  process.exit(name === 'SIGINT' ? 130 : 143);
}

function add(result) {
  total.passed += result.passed;
  total.failed += result.failed;
  total.skipped += result.skipped;
  total.failures.push(...result.failures);
}

function fail(what) {
  total.failed++;
  total.failures.push(what);
}

function finish() {
  const { passed, failed, skipped, failures } = total;
  if (failures.length > 0)
    process.stdout.write(`\nfailures:\n${failures.map((each) => `- ${each}`).join('\n')}\n`);
  process.exitCode = failed === 0 ? 0 : 1;
  process.stdout.write(
    `\n${passed} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}\n`,
  );
}
