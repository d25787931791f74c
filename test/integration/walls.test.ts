import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient } from '#libs/client';
import { nativeState } from '#libs/spawner';
import { resolveServerBinary } from '#libs/local-server';
import { running } from '../support/executions';
import { descendantsOf, eventually, FIXTURES, isAlive } from '../support/proc';

const PROGRAMS = resolve(__dirname, '../../dist/programs');
const BELAY = join(PROGRAMS, 'belay.js');
const NOBODY = 65_534;
const TOKEN = 'a-token-of-this-test-that-nobody-may-read';

/** Root may read every process, so the fleet of this file runs as an ordinary user. */
const isRoot = process.getuid?.() === 0;
const asUser = (...command: string[]): string[] =>
  isRoot ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', ...command] : command;

function missing(): string | undefined {
  const state = nativeState();
  if (!state.available) return state.reason;
  const [file = '', ...args] = asUser(process.execPath, BELAY, '--version');
  return spawnSync(file, args).status === 0
    ? undefined
    : 'no ordinary user can be had that can run the programs';
}

const why = missing();
if (why !== undefined) process.stdout.write(`The walls are not tested here: ${why}.\n`);
const describeWalls = why === undefined ? describe : describe.skip;

jest.setTimeout(120_000);
beforeAll(async () => void (await resolveServerBinary()), 300_000);

interface Reading {
  readonly self: number;
  readonly open: Readonly<Record<string, { readonly environ?: string; readonly mem?: boolean }>>;
}

describeWalls('an agent of the same user', () => {
  let dir: string;
  let children: { child: ChildProcess; text: () => string; exited: Promise<unknown> }[];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'belay-walls-'));
    if (isRoot) chownSync(dir, NOBODY, NOBODY);
    children = [];
  });
  afterEach(async () => {
    // With `up` its services, their guardians and the server end.
    const all = programs();
    for (const { child } of children) child.kill('SIGKILL');
    await Promise.all(children.map(async ({ exited }) => exited));
    await eventually('nothing of theirs runs', () => !all.some(isAlive), 30_000);
    rmSync(dir, { recursive: true, force: true });
  });

  /** Programs of Belay that descend from the commands of the test, by the test's own look. */
  function programs(): number[] {
    const started = children.flatMap(({ child }) => child.pid ?? []);
    const found = started.flatMap((pid) => [pid, ...descendantsOf(pid)]);
    return found.filter((pid) => commandLine(pid).includes(PROGRAMS));
  }

  function start(env: NodeJS.ProcessEnv, ...args: string[]): (typeof children)[number] {
    const [file = '', ...rest] = asUser(process.execPath, BELAY, ...args);
    const child = spawn(file, rest, { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const exited = new Promise((done) => child.once('exit', done));
    const one = { child, text: () => said, exited };
    children.push(one);
    return one;
  }

  const says = async (one: (typeof children)[number], words: string): Promise<unknown> =>
    await eventually(`"${words}"`, () => one.text().includes(words), 30_000).catch((error: Error) => {
      throw new Error(`${error.message}; it said:\n${one.text()}`);
    });

  async function environment(): Promise<NodeJS.ProcessEnv> {
    const program = await serverFor(dir);
    return {
      PATH: process.env['PATH'],
      HOME: dir,
      BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'],
      BELAY_TEST_SERVER: program,
      BELAY_TOKEN: TOKEN,
      BELAY_STOP_TIMEOUT_MS: '500',
      BELAY_GRACE_MS: '200',
    };
  }

  it('reads no environment and no memory of up, orchestrator, worker, guardian, or a command in flight', async () => {
    const env = await environment();
    const up = start(env, 'up', '--port', '0', '--workers', '1');
    await says(up, 'Belay is up.');
    const { url } = JSON.parse(readFileSync(join(dir, '.belay', 'orchestrator.json'), 'utf8')) as {
      url: string;
    };
    const client = createClient({ url, token: TOKEN });
    const [go, record] = [join(dir, 'go'), join(dir, 'record')];
    const { execution } = await client.createExecution({
      name: 'reader',
      nodes: [
        {
          id: 'a',
          run: {
            command: [process.execPath, join(FIXTURES, 'reads-everything.cjs')],
            env: { GO: go, RECORD: record },
          },
        },
      ],
    });
    await running(client, execution.id, 1, 60_000);
    const watch = start({ ...env, BELAY_URL: url }, 'watch', execution.id);
    await says(watch, '1 running');

    const own = programs();
    const kinds = own
      .map((pid) => /(\w[\w-]*)\.js/.exec(commandLine(pid))?.[1] ?? '')
      .toSorted((a, b) => a.localeCompare(b));
    expect(kinds).toEqual(['belay', 'belay', 'guardian-main', 'orchestrator', 'worker']);
    writeFileSync(go, '');
    // Everybody can read arguments. Root can read environments, closed ones too.
    const password = readFileSync(join(dir, '.belay', 'valkey', 'password'), 'utf8').trim();
    for (const pid of children.flatMap(({ child }) => [child.pid ?? 0, ...descendantsOf(child.pid ?? 0)])) {
      expect(commandLine(pid)).not.toContain(password);
      if (isRoot) expect(readFileSync(`/proc/${pid}/environ`, 'latin1')).not.toContain(password);
    }
    expect(up.text()).not.toContain(password);
    await eventually('its record', () => existsSync(record), 30_000);
    const { self, open } = JSON.parse(readFileSync(record, 'utf8')) as Reading;
    // The agent can read: its own process, for one.
    expect(open[self]).toMatchObject({ mem: true, environ: expect.stringContaining(record) as string });
    expect(own.filter((pid) => open[pid] !== undefined).map(commandLine)).toEqual([]);
    // No other process of that user has a secret either, such as the state server.
    const holders = Object.entries(open).filter(([, { environ = '' }]) =>
      [TOKEN, password].some((secret) => environ.includes(secret)),
    );
    expect(holders.map(([pid]) => commandLine(Number(pid)))).toEqual([]);
  });
});

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** The tests' server as one program that any user can run: the unpacked one is closed to others. */
async function serverFor(dir: string): Promise<string> {
  const { path, libraryPath } = await resolveServerBinary();
  if (libraryPath === undefined) return path;
  copyFileSync(path, join(dir, 'server'));
  cpSync(libraryPath, join(dir, 'libraries'), { recursive: true, dereference: true });
  const program = join(dir, 'valkey-server');
  const text = `#!/bin/sh\nLD_LIBRARY_PATH='${join(dir, 'libraries')}' exec '${join(dir, 'server')}' "$@"\n`;
  writeFileSync(program, text, { mode: 0o755 });
  return program;
}
