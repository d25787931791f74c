// Makes a fresh clone runnable: dependencies installed, sources compiled. Plain Node without dependencies, since it runs before
// there are any. Every step is skipped when there is nothing to do.
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from './lock.mjs';
import { run, showProgress, tail } from './run.mjs';

/** The repository, wherever it was cloned to. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const STATE = join(ROOT, '.belay');
const MODULES = join(ROOT, 'node_modules');
const STAMP = join(MODULES, '.belay-lock');
/** The native compiler. `typescript` is its predecessor, whose interface the Nest CLI needs (ADR 0001). */
export const COMPILER = join(MODULES, 'typescript7', 'bin', 'tsc');
const OLDEST_NODE = [20, 19, 0];
const INSTALL_TIMEOUT_MS = 900_000;
const BUILD_TIMEOUT_MS = 300_000;

/** A failed step that a person can repair: shown as it is, without a stack. */
export class SetupError extends Error {}

/** Checks Node, installs and builds; throws SetupError. Two at once wait for each other. */
export async function setup() {
  checkNode();
  await inState(async () => {
    await installDependencies();
    const failure = await build();
    if (failure !== undefined) throw new SetupError(failure);
  });
}

/** As `setup`, but returns the text of a failed build, so that a test run goes on and reports further faults. */
export async function setupForTests() {
  checkNode();
  return inState(async () => {
    await installDependencies();
    return build();
  });
}

/** Installs only the packages of the lock file; throws SetupError. */
export async function setupDependencies() {
  checkNode();
  await inState(installDependencies);
}

function checkNode() {
  const have = process.versions.node.split('.').map(Number);
  for (let i = 0; i < OLDEST_NODE.length; i++) {
    if (have[i] > OLDEST_NODE[i]) return;
    if (have[i] < OLDEST_NODE[i]) {
      throw new SetupError(
        `Belay needs Node ${OLDEST_NODE.join('.')} or later; this is ${process.versions.node}.`,
      );
    }
  }
}

async function inState(work) {
  try {
    mkdirSync(STATE, { recursive: true, mode: 0o700 });
    accessSync(ROOT, constants.W_OK);
    accessSync(STATE, constants.W_OK);
  } catch (error) {
    throw new SetupError(`${ROOT} must be writable for this user to install and build (${error.code}).`);
  }
  const options = {
    waitMs: INSTALL_TIMEOUT_MS + BUILD_TIMEOUT_MS,
    onWait: (pid) =>
      process.stdout.write(`waiting for process ${pid}, which is setting up this checkout …\n`),
  };
  return withLock(join(STATE, 'setup.lock'), options, work);
}

async function installDependencies() {
  const lockFile = readFileSync(join(ROOT, 'package-lock.json'));
  const wanted = createHash('sha256').update(lockFile).digest('hex');
  if (readIfThere(STAMP) === wanted) return;
  if (isInstalled(JSON.parse(lockFile))) return writeFileSync(STAMP, wanted);

  const log = join(STATE, 'install.log');
  const done = showProgress('installing dependencies');
  let ran = await npm('ci');
  // A lock file that was made where a registry lacks packages of other platforms makes `npm ci` refuse, on every platform. `npm
  // install` then takes the same locked versions and leaves the lock file as it is.
  if (ran.code !== 0 && /\bEUSAGE\b/.test(ran.output)) ran = await npm('install', '--no-save');
  writeFileSync(log, ran.output);
  if (ran.code !== 0) {
    done('failed');
    throw new SetupError(
      `npm ${ran.command} failed (${ran.ended}); the end of ${log}:\n${tail(ran.output, 25)}`,
    );
  }
  writeFileSync(STAMP, wanted);
  done('installed');
}

async function npm(command, ...flags) {
  const [program, firstArgs] = npmProgram();
  const ran = await run(program, firstArgs, {
    args: [command, ...flags, '--include=dev', '--no-audit', '--no-fund', '--no-progress'],
    cwd: ROOT,
    timeoutMs: INSTALL_TIMEOUT_MS,
    env: npmEnvironment(),
  });
  return { ...ran, command };
}

/** Compares npm's record in node_modules with the lock file, so that a manual install counts too. */
function isInstalled(lock) {
  const hidden = readIfThere(join(MODULES, '.package-lock.json'));
  if (hidden === undefined) return false;
  const have = JSON.parse(hidden).packages ?? {};
  return Object.entries(lock.packages ?? {}).every(([path, { version, optional }]) => {
    if (path === '' || (optional === true && have[path] === undefined)) return true;
    return have[path]?.version === version && existsSync(join(ROOT, path, 'package.json'));
  });
}

/** The npm that started this process, so that the same one installs; otherwise the one on PATH. */
function npmProgram() {
  const script = process.env.npm_execpath ?? '';
  return /npm-cli\.c?js$/.test(script) ? [process.execPath, [script]] : ['npm', []];
}

function npmEnvironment() {
  const env = { ...process.env, npm_config_update_notifier: 'false' };
  const cache = env.npm_config_cache ?? join(homedir(), '.npm');
  try {
    mkdirSync(cache, { recursive: true });
    accessSync(cache, constants.W_OK);
  } catch {
    // A user without a home, as services often are: npm would fail on its cache.
    env.npm_config_cache = join(STATE, 'npm-cache');
  }
  return env;
}

/** Compiles and bundles: a few seconds, less when little changed. Returns the output of a failed step. */
async function build() {
  const info = join(ROOT, 'dist', '.tsbuildinfo');
  // The compiler trusts its build info: with that and without the files it would write nothing.
  if (!existsSync(join(ROOT, 'dist', 'libs', 'contracts', 'src', 'index.js'))) rmSync(info, { force: true });
  const done = showProgress('building');
  const steps = [
    [COMPILER, '-p', 'tsconfig.build.json'],
    [join(ROOT, 'scripts', 'bundle.mjs')],
    [join(ROOT, 'scripts', 'package.mjs')],
  ];
  for (const step of steps) {
    const ran = await run(process.execPath, step, { cwd: ROOT, timeoutMs: BUILD_TIMEOUT_MS });
    if (ran.code === 0) continue;
    done('failed');
    return `The build failed (${ran.ended}):\n${tail(ran.output, 40)}`;
  }
  done('built');
  return undefined;
}

function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
