import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { resolveServerBinary, startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { bareEnvironment, install, pack, type Packed } from '../support/packed';
import { eventually } from '../support/wait';

/** The package as published (ADR 0021), installed where nothing else of the checkout is found. */
const ROOT = resolve(__dirname, '../..');
const TSC = join(ROOT, 'node_modules/typescript7/bin/tsc');
const MOST_BYTES = 1_000_000;
const MOST_FILES = 400;

let directory: string;
let packed: Packed;
let home: string;
let installed: string;
let manifest: { version: string; exports: Record<string, unknown>; bin: { belay: string } };
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-package-'));
  home = join(directory, 'home');
  mkdirSync(home);
  packed = pack(directory);
  installed = install(packed, directory, [
    '@nestjs/terminus',
    '@nestjs/testing',
    '@types/node',
    'undici-types',
  ]);
  manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as typeof manifest;
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

it('R69 the package has at most 1 MB and 400 files, none of them a test, a source or a map', () => {
  expect(packed.size).toBeLessThanOrEqual(MOST_BYTES);
  expect(packed.paths.length).toBeLessThanOrEqual(MOST_FILES);
  const strange = packed.paths.filter(
    (path) =>
      /^(test|bench|scripts)\/|\.(spec|test)\.|\.map$|^(apps|libs)\/.*\.ts$/.test(path) ||
      (path.endsWith('.ts') && !path.endsWith('.d.ts')),
  );
  expect(strange).toEqual([]);
  expect(packed.paths).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']));
});

it('names no path of the machine that it was made on', () => {
  const places = [ROOT, userInfo().homedir].filter((path) => path !== '/');
  const own = new RegExp(`(?:${places.map(literal).join('|')})(?![\\w.-])`);
  const told = packed.paths.filter((path) => own.test(readFileSync(join(installed, path), 'utf8')));
  // A home such as /root is also a word of the documents.
  expect(told.filter((path) => !path.startsWith('docs/'))).toEqual([]);
});

const DOORS = ['belayd', 'belayd/nest', 'belayd/testing', 'belayd/client', 'belayd/contracts'];

it('R69 every door is there for import and for require, with the same classes behind both', () => {
  expect(Object.keys(manifest.exports)).toEqual([
    ...DOORS.map((door) => door.replace('belayd', '.')),
    './package.json',
  ]);
  writeFileSync(
    join(directory, 'doors.mjs'),
    `import { createRequire } from 'node:module';
     const require = createRequire(import.meta.url);
     const said = {};
     for (const door of ${JSON.stringify(DOORS)}) {
       const [imported, required] = [await import(door), require(door)];
       const names = Object.keys(required);
       if (Object.keys(imported).some((name) => imported[name] !== required[name])) said[door] = 'two';
       else said[door] = Object.keys(imported).length === names.length && names.length > 0 ? 'one' : 'fewer';
     }
     const [{ BelayError }, nest, contracts] = [require('belayd'), require('belayd/nest'), require('belayd/contracts')];
     said.error = BelayError === nest.BelayError && BelayError === contracts.BelayError;
     process.stdout.write(JSON.stringify(said));`,
  );
  const ran = spawnSync(process.execPath, ['doors.mjs'], inside());
  expect(ran.stderr).toBe('');
  expect(JSON.parse(ran.stdout)).toEqual({
    ...Object.fromEntries(DOORS.map((door) => [door, 'one'])),
    error: true,
  });
});

/** A program that uses each entry point: correct lines, and wrong ones that must not compile. */
const TYPED = `
import { buildInMemoryBelay, BelayError, type Belay, type ExecutionSpecInput } from 'belayd';
import { BelayModule, ExecutionManager, KillswitchService } from 'belayd/nest';
import { BelayTestingModule } from 'belayd/testing';
import { createClient } from 'belayd/client';
import { isBelayError, type ExecutionRecord } from 'belayd/contracts';

export const spec = { name: 'typed', nodes: [{ id: 'a', run: { command: ['true'] } }] } as const satisfies ExecutionSpecInput;
export const belay: Belay = buildInMemoryBelay({ worker: { concurrency: 2 } });
export const modules = [BelayModule.forRoot({ url: 'redis://127.0.0.1:6379' }), KillswitchService, BelayError, isBelayError, BelayTestingModule.forRoot()];
export async function submit(manager: ExecutionManager): Promise<ExecutionRecord> {
  await createClient({ url: 'http://127.0.0.1:7070' }).createExecution(spec);
  // @ts-expect-error -- a node has an id
  await manager.submit({ name: 'wrong', nodes: [{ run: { command: ['true'] } }] });
  // @ts-expect-error -- a command is a list
  await createClient({ url: 'http://127.0.0.1:7070' }).createAgent({ run: { command: 'true' } });
  // @ts-expect-error -- there is no such option
  buildInMemoryBelay({ wroker: false });
  return (await manager.submit(spec)).execution;
}
`;

/** The indicators also have the types of @nestjs/terminus. */
const HEALTH = `
import type { HealthCheckService, HealthCheckResult } from '@nestjs/terminus';
import type { BelayHealth } from 'belayd/nest';
export const check = (health: HealthCheckService, belay: BelayHealth): Promise<HealthCheckResult> =>
  health.check([() => belay.worker(), () => belay.background('passes'), () => belay.valkey()]);
`;

it.each([
  ['node16, in a CommonJS and in an ES module', 'node16', ['typed.cts', 'typed.mts']],
  ['nodenext, in a CommonJS and in an ES module', 'nodenext', ['typed.cts', 'typed.mts']],
  ['bundler', 'bundler', ['typed.ts', 'health.ts']],
])('R69 its types are right with the module resolution %s', (_name, resolution, files) => {
  const folder = join(directory, resolution);
  mkdirSync(folder);
  for (const file of files) writeFileSync(join(folder, file), file === 'health.ts' ? HEALTH : TYPED);
  const compilerOptions = {
    module: resolution === 'bundler' ? 'esnext' : resolution,
    moduleResolution: resolution,
    target: 'es2022',
    strict: true,
    noEmit: true,
    types: ['node'],
    // Its declarations are checked as well, and so are those of the packages that they name.
    skipLibCheck: false,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: files }));
  const ran = spawnSync(process.execPath, [TSC, '-p', join(folder, 'tsconfig.json')], inside());
  expect({ said: ran.stdout, status: ran.status }).toEqual({ said: '', status: 0 });
});

describe('R69 with nothing but the package', () => {
  let server: ThrowawayServer;
  beforeAll(async () => {
    server = await startThrowawayServer();
  });
  afterAll(async () => server.stop());

  it('belay prints its version, and up runs a fleet that accepts a submit, and drains', async () => {
    const program = join(installed, manifest.bin.belay);
    expect(execFileSync(process.execPath, [program, '--version'], inside())).toBe(`${manifest.version}\n`);
    const env = { ...inside().env, BELAY_VALKEY_URL: server.url, BELAY_HTTP_PORT: '0' };
    const up = spawn(process.execPath, [program, 'up', '--workers', '1'], { ...inside(), env });
    let said = '';
    for (const stream of [up.stdout, up.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    const exit = once(up, 'exit');
    try {
      await eventually(() => said.includes('Ctrl-C') || up.exitCode !== null, 'its fleet');
      const ran = spawnSync(process.execPath, [program, 'run', exampleNamed(said), '--watch'], inside());
      expect({ ...ran, stdout: ran.stdout }).toMatchObject({
        status: 0,
        stdout: expect.stringContaining('completed'),
      });
      up.kill('SIGTERM');
      expect(await exit).toEqual([0, null]);
      expect(readdirSync(home)).toEqual([]);
    } finally {
      if (up.exitCode === null) up.kill('SIGKILL');
    }
  });

  it('R69 a Nest application submits, runs, kills with proof and drains by Nest’s hooks, in 30 lines', async () => {
    const app = newApplication();
    const lines = ['app', 'main'].flatMap((name) =>
      readFileSync(join(app, `src/${name}.ts`), 'utf8')
        .split('\n')
        .filter((line) => line.trim() !== '' && !line.startsWith('//')),
    );
    expect(lines.length).toBeLessThanOrEqual(30);
    const env = { ...inside().env, VALKEY_URL: server.url };
    const main = spawn(process.execPath, [join(app, 'dist/main.js')], { ...inside(), env });
    let said = '';
    for (const stream of [main.stdout, main.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    const exit = once(main, 'exit');
    try {
      await eventually(() => said.includes('drains') || main.exitCode !== null, 'its reports');
      expect(said).toBe(
        'report: completed\nreport: stopped, 1 killed, complete: true\nanother report runs; Ctrl-C drains\n',
      );
      main.kill('SIGTERM');
      // Nest ends the process by the signal that closed it.
      expect(await exit).toEqual([null, 'SIGTERM']);
      expect(said).toContain('still running after 1000 ms; stopping them');
    } finally {
      if (main.exitCode === null && main.signalCode === null) main.kill('SIGKILL');
    }
  });

  it('R69 its tests run the application on a private Valkey, and leave nothing', async () => {
    const app = newApplication();
    const { path, libraryPath = '' } = await resolveServerBinary();
    const env = { ...inside().env, TMPDIR: app, BELAY_TEST_SERVER: path, LD_LIBRARY_PATH: libraryPath };
    const before = readdirSync(app);
    const ran = spawnSync(process.execPath, ['--test', 'dist/'], { ...inside(), cwd: app, env });
    expect({ said: ran.stdout, status: ran.status }).toMatchObject({
      said: expect.stringContaining('# pass 2'),
      status: 0,
    });
    expect(readdirSync(app)).toEqual(before);
  });

  it('R48 the examples of the documents run', async () => {
    // The application before left an execution, of which this one's worker would make the next attempt.
    const own = await startThrowawayServer();
    const env = { ...inside().env, BELAY_VALKEY_URL: own.url };
    const example = readFileSync(join(installed, 'examples/nest.cjs'), 'utf8');
    writeFileSync(join(directory, 'nest.cjs'), example);
    const ran = spawnSync(process.execPath, ['nest.cjs'], { ...inside(), env, timeout: 60_000 });
    await own.stop();
    expect({ stdout: ran.stdout, status: ran.status }).toEqual({ stdout: 'stopped true 1\n', status: 0 });
    const page = readFileSync(join(ROOT, 'docs/embedding.md'), 'utf8');
    expect(page).toContain(`\`\`\`js\n${example}\`\`\``);
    for (const file of ['app.ts', 'app.test.ts'])
      expect(page).toContain(
        `\`\`\`ts\n${readFileSync(join(ROOT, 'examples/nest-app/src', file), 'utf8')}\`\`\``,
      );
  });

  /** examples/nest-app, an ES module, compiled against the package. Made once. */
  function newApplication(): string {
    const app = join(directory, 'nest-app');
    if (existsSync(app)) return app;
    cpSync(join(ROOT, 'examples/nest-app'), app, { recursive: true });
    const compiled = spawnSync(process.execPath, [TSC, '-p', app], inside());
    expect({ said: compiled.stdout, status: compiled.status }).toEqual({ said: '', status: 0 });
    return app;
  }

  /** The command that `up` names is the one that people type; the example takes seconds, so a short one takes its place. */
  function exampleNamed(said: string): string {
    const named = /npx belay run (\S+) --watch/.exec(said)?.[1] ?? '';
    expect(readFileSync(join(directory, named), 'utf8')).toContain('nodes:');
    const short = join(directory, 'short.yaml');
    writeFileSync(short, 'name: short\nnodes:\n  - id: a\n    run: { command: ["true"] }\n');
    return short;
  }
});

function inside(): { cwd: string; env: NodeJS.ProcessEnv; encoding: 'utf8' } {
  return { cwd: directory, env: bareEnvironment(home), encoding: 'utf8' };
}

const literal = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
