import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { bareEnvironment } from '../support/packed';
import { eventually } from '../support/wait';

/** `npx nest` in a checkout that was never built: the files of a clone, and the packages of the lock file. */
const ROOT = resolve(__dirname, '../..');
const CLONED = ['apps', 'libs', 'nest-cli.json', 'package.json', 'tsconfig.json', 'tsconfig.nest.json'];
/** The first build compiles everything; each later one compiles the changes. Milliseconds. */
const BUILD_MS = 400_000;

const { projects } = JSON.parse(readFileSync(join(ROOT, 'nest-cli.json'), 'utf8')) as {
  projects: Record<string, { type: string; entryFile: string; sourceRoot: string }>;
};

let directory: string;
let clone: string;
let home: string;
let server: ThrowawayServer;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'belay-nest-cli-'));
  [clone, home] = [join(directory, 'clone'), join(directory, 'home')];
  for (const path of [clone, home]) mkdirSync(path);
  for (const name of CLONED) cpSync(join(ROOT, name), join(clone, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  server = await startThrowawayServer();
  nest('build', 'orchestrator');
}, BUILD_MS);
afterAll(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

it('nest build compiles every application and library of nest-cli.json, and each entry can be loaded', () => {
  for (const [name, { type, entryFile, sourceRoot }] of Object.entries(projects)) {
    const entry = join(clone, 'dist', type === 'application' ? entryFile : `${sourceRoot}/${entryFile}`);
    expect([name, existsSync(`${entry}.js`)]).toEqual([name, true]);
  }
  const library = join(clone, 'dist/apps/embedded/src/index.js');
  const load = `console.log(typeof require(${JSON.stringify(library)}).buildBelay)`;
  expect(execFileSync(process.execPath, ['-e', load], { cwd: clone, encoding: 'utf8' })).toBe('function\n');
});

/** `nest start` of an application begins with its build. */
const STARTED = ['orchestrator', 'worker', 'cli'];
it.each(Object.keys(projects).filter((name) => isOfApps(name) && !STARTED.includes(name)))(
  'nest build %s ends well, beside a build that was already made',
  (name) => expect(nest('build', name)).not.toContain('error'),
  BUILD_MS,
);

it(
  'nest start cli builds and runs the command line',
  () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(nest('start', 'cli', '--', '--version').trim().split('\n').at(-1)).toBe(version);
  },
  BUILD_MS,
);

it.each(['orchestrator', 'worker'])(
  'npx nest start %s builds and runs that program, which drains on SIGTERM',
  async (name) => {
    const child = spawn('npx', ['--no-install', 'nest', 'start', name], {
      cwd: clone,
      env: {
        ...bareEnvironment(home),
        BELAY_DATA_DIR: join(directory, 'data'),
        BELAY_VALKEY_URL: server.url,
        BELAY_HTTP_PORT: '0',
        BELAY_TOKEN: 'a-token-of-this-test',
        BELAY_WORKER_HTTP_PORT: '0',
      },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    const exit = once(child, 'exit');
    const { pid } = child;
    if (pid === undefined) throw new Error('npx does not start');
    try {
      await eventually(() => isRunning(said) || child.exitCode !== null, 'its start', BUILD_MS);
      expect(said).toContain('"msg":"running"');
      // Like Ctrl-C in a terminal: npx, the CLI and the program each get the signal.
      process.kill(-pid, 'SIGTERM');
      await exit;
      await eventually(() => said.includes('"msg":"stopped"'), 'its drain');
    } finally {
      if (child.exitCode === null && child.signalCode === null) process.kill(-pid, 'SIGKILL');
    }
  },
  BUILD_MS,
);

/** Runs the program that `npx nest` finds, in the clone. Returns its output. */
function nest(...args: string[]): string {
  const ran = spawnSync(join(clone, 'node_modules/.bin/nest'), args, {
    cwd: clone,
    env: bareEnvironment(home),
    encoding: 'utf8',
    timeout: BUILD_MS,
  });
  expect({ said: ran.status === 0 ? '' : `${ran.stdout}${ran.stderr}`, status: ran.status }).toEqual({
    said: '',
    status: 0,
  });
  return ran.stdout;
}

const isRunning = (said: string): boolean => said.includes('"msg":"running"');

function isOfApps(name: string): boolean {
  return projects[name]?.sourceRoot.startsWith('apps/') === true;
}
