import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startThrowawayServer } from '#libs/local-server';
import { eventually } from '../support/wait';

/** The programs that people run, as built (ADR 0018). */
const ROOT = resolve(__dirname, '../..');
const PROGRAMS = join(ROOT, 'dist/programs');
const GUARDIAN_FLAGS = readFileSync(join(ROOT, 'libs/spawner/src/process/guardian.ts'), 'utf8')
  .match(/const NODE_FLAGS = \[(.*)\]/)?.[1]
  ?.split(',')
  .map((flag) => flag.trim().slice(1, -1));

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-programs-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** Prints whether V8 accepts the code that is kept for a program. */
const TAKES = `
  const { readFileSync, readdirSync } = require('node:fs');
  const [code, name] = process.argv.slice(1);
  const file = readdirSync(code).find((each) => each.startsWith(name + '-') && each.endsWith('.js'));
  const source = require('node:module').wrap(readFileSync(code + '/' + file, 'latin1'));
  const cachedData = readFileSync(code + '/' + file.replace(/js$/, 'code'));
  const script = new (require('node:vm').Script)(source, { filename: code + '/' + file, cachedData });
  process.stdout.write(String(!script.cachedDataRejected));
`;

it.each([
  ['belay', []],
  ['orchestrator', []],
  ['worker', []],
  ['guardian-main', GUARDIAN_FLAGS],
])('V8 takes the code that the build kept for %s, with the flags it is started with', (name, flags = []) => {
  const args = [...flags, '-e', TAKES, join(PROGRAMS, 'code'), name];
  expect(execFileSync(process.execPath, args, { encoding: 'utf8' })).toBe('true');
});

/** The output of the command line in a package of its own, after `damage` was done to its kept code. */
function versionOf(damage: (path: string) => void): string {
  cpSync(join(ROOT, 'package.json'), join(directory, 'package.json'));
  const programs = join(directory, 'dist/programs');
  mkdirSync(join(programs, 'code'), { recursive: true });
  cpSync(join(PROGRAMS, 'belay.js'), join(programs, 'belay.js'));
  for (const file of readdirSync(join(PROGRAMS, 'code')).filter((each) => each.startsWith('belay-'))) {
    cpSync(join(PROGRAMS, 'code', file), join(programs, 'code', file));
    if (file.endsWith('.code')) damage(join(programs, 'code', file));
  }
  const ran = spawnSync(process.execPath, [join(programs, 'belay.js'), '--version'], { encoding: 'utf8' });
  expect(ran.stderr).toBe('');
  return ran.stdout.trim();
}

it('a program starts without its kept code, with half of it, with that of another, and with nonsense', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const other = readdirSync(join(PROGRAMS, 'code')).find((file) => /^guardian.*code$/.test(file)) ?? '';
  const damages: ((path: string) => void)[] = [
    (path) => rmSync(path),
    (path) => writeFileSync(path, readFileSync(path).subarray(0, 10_000)),
    (path) => cpSync(join(PROGRAMS, 'code', other), path),
    (path) => writeFileSync(path, 'nonsense'),
    (path) => writeFileSync(path, ''),
  ];
  for (const damage of damages) expect(versionOf(damage)).toBe(version);
});

it.each(['orchestrator', 'worker'])(
  'belay %s runs that program in the foreground, and drains',
  async (app) => {
    const server = await startThrowawayServer();
    const child = spawn(process.execPath, [join(PROGRAMS, 'belay.js'), app], {
      env: {
        PATH: process.env['PATH'],
        HOME: directory,
        BELAY_DATA_DIR: join(directory, 'data'),
        BELAY_VALKEY_URL: server.url,
        BELAY_HTTP_PORT: '0',
        BELAY_WORKER_HTTP_PORT: '0',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    const exit = once(child, 'exit');
    try {
      await eventually(() => said.includes('"msg":"running"') || child.exitCode !== null, 'its start');
      expect(said).toContain('"msg":"running"');
      child.kill('SIGTERM');
      expect(await exit).toEqual([0, null]);
    } finally {
      if (child.exitCode === null) child.kill('SIGKILL');
      await server.stop();
    }
  },
);

interface NestProject {
  readonly type: string;
  readonly root: string;
  readonly entryFile: string;
  readonly sourceRoot: string;
}

it('nest-cli.json names every application and library, and the entry of each program is the one that `npm run build` makes', () => {
  const { projects, compilerOptions } = JSON.parse(readFileSync(join(ROOT, 'nest-cli.json'), 'utf8')) as {
    projects: Record<string, NestProject>;
    compilerOptions: { tsConfigPath: string };
  };
  const ours = ['apps', 'libs'].flatMap((folder) =>
    readdirSync(join(ROOT, folder)).map((name) => `${folder}/${name}`),
  );
  expect(
    Object.values(projects)
      .map(({ root }) => root)
      .toSorted(),
  ).toEqual(ours.toSorted());
  expect(existsSync(join(ROOT, compilerOptions.tsConfigPath))).toBe(true);
  for (const [name, { type, root, entryFile, sourceRoot }] of Object.entries(projects)) {
    expect(sourceRoot).toBe(`${root}/src`);
    const entry = type === 'application' ? entryFile : `${sourceRoot}/${entryFile}`;
    expect([
      name,
      existsSync(join(ROOT, `${entry}.ts`)),
      existsSync(join(ROOT, 'dist', `${entry}.js`)),
    ]).toEqual([name, true, true]);
  }
  // `nest start` runs the entry as it is.
  const cli = join(ROOT, 'dist', `${projects['cli']?.entryFile}.js`);
  expect(execFileSync(process.execPath, [cli, '--version'], { encoding: 'utf8' })).toMatch(
    /^\d+\.\d+\.\d+\n$/,
  );
});
