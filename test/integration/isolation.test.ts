import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeState } from '#libs/spawner';
import { AGENT_UIDS, noOwnUsers } from '../support/own-user';
import {
  aliveWithEnvironment,
  eventually,
  expectedContainments,
  FIXTURES,
  isAlive,
  noNamespaces,
} from '../support/proc';

/** The programs that people run (ADR 0018). */
const PROGRAMS = join(__dirname, '../../dist/programs');
/** The owner of the files in /proc of a process that its own user may not read. */
const ROOT = 0;
const NOBODY = 65_534;

/** Root may read everything, so the programs run as an ordinary user. */
const isRoot = process.getuid?.() === 0;
const asUser = (...command: string[]): string[] =>
  isRoot ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', ...command] : command;

function missing(): string | undefined {
  const state = nativeState();
  if (!state.available) return state.reason;
  const [file = '', ...args] = asUser(
    process.execPath,
    '-e',
    `fs.readFileSync(${JSON.stringify(join(FIXTURES, 'host.cjs'))})`,
  );
  return spawnSync(file, args).status === 0
    ? undefined
    : 'no ordinary user can be had that can read the programs';
}

const why = missing();
if (why !== undefined) process.stdout.write(`Isolation is not tested here: ${why}.\n`);
const describeIsolation = why === undefined ? describe : describe.skip;

/** Beyond the rights of a user over its own processes: Yama, where it is on, lets only a parent trace. */
const TRACED = new Set(['open the memory of the sibling']);

describeIsolation('an agent', () => {
  let dir: string;
  const children: ChildProcess[] = [];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'belay-isolation-'));
    chmodSync(dir, 0o777);
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    // A guardian removes the files that its worker left there.
    await eventually('nothing of theirs runs', () => aliveWithEnvironment(dir).length === 0, 30_000);
    const gone = (): boolean => {
      try {
        rmSync(dir, { recursive: true, force: true });
        return true;
      } catch {
        return false;
      }
    };
    await eventually('the directory removed', gone, 30_000);
  });

  function start(
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    as = asUser,
  ): ChildProcess & { pid: number } {
    const [file = '', ...args] = as(...command);
    const child = spawn(file, args, { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    return child as ChildProcess & { pid: number };
  }

  /** The files that an agent can read by its own report, after it tried all of them. */
  async function mayRead(containment: string, shield: boolean): Promise<string[]> {
    const record = join(dir, 'record');
    const plan = {
      options: { workerId: 'w-isolation', dataDir: join(dir, 'data'), containment },
      agents: [
        { command: ['/bin/sh', '-c', `PIDS=$HOST exec ${join(FIXTURES, 'reads-processes.sh')} >${record}`] },
      ],
      env: { TEST_DIR: dir },
      finally: 'stay',
      shield,
      hands: 'HOST',
    };
    start([process.execPath, join(FIXTURES, 'host.cjs'), JSON.stringify(plan)], {
      PATH: process.env['PATH'],
    });
    const said = (): string[] => {
      try {
        return readFileSync(record, 'utf8').trimEnd().split('\n');
      } catch {
        return [];
      }
    };
    await eventually('its word', () => said().includes('done'), 30_000);
    return said()
      .filter((line) => line !== 'done')
      .map((line) => line.replace(/\d+/, 'worker'));
  }

  /** The attacks that succeed for an agent that tries all of them against a worker whose data directory is `dir`. */
  async function attack(options: object, as = asUser): Promise<string[]> {
    const dataDir = join(dir, 'data');
    const record = join(dir, 'attacks');
    mkdirSync(dataDir, { mode: 0o700 });
    writeFileSync(join(dataDir, 'token'), 'secret', { mode: 0o600 });
    const server = createServer((socket) => socket.destroy()).listen(join(dataDir, 'server.sock'));
    await new Promise((resolve) => server.once('listening', resolve));
    if (isRoot && as === asUser)
      for (const file of [dataDir, join(dataDir, 'token'), join(dataDir, 'server.sock')])
        chownSync(file, NOBODY, NOBODY);
    const plan = {
      options: { workerId: 'w-isolation', dataDir, ...options },
      agents: [
        { command: [join(FIXTURES, 'polite.sh')] },
        { command: [process.execPath, join(FIXTURES, 'attacks.cjs')] },
      ],
      env: { TEST_DIR: dir, RECORD: record, DATA: dataDir },
      finally: 'stay',
      // With a user of its own nothing else is needed.
      shield: as === asUser,
      hands: 'HOST',
    };
    const child = start(
      [process.execPath, join(FIXTURES, 'host.cjs'), JSON.stringify(plan)],
      { PATH: process.env['PATH'] },
      as,
    );
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    try {
      const lines = (): string[] =>
        existsSync(record) ? readFileSync(record, 'utf8').trimEnd().split('\n') : [];
      // Its last attack may end itself.
      const isOver = (): boolean => lines().includes('over') || lines().includes('kill the worker');
      await eventually('its last word', isOver, 30_000).catch((error: unknown) => {
        throw new Error(`${String(error)}; the worker said ${JSON.stringify(said)}`);
      });
      const done = lines().filter((line) => line !== 'over');
      if (done.includes('kill the worker')) await eventually('its end', () => !isAlive(child.pid), 30_000);
      expect([child.pid, isAlive(child.pid)]).toEqual([child.pid, !done.includes('kill the worker')]);
      return done;
    } finally {
      server.close();
    }
  }

  it('may read no environment, memory or descriptors of its guardian, which started it, nor of its worker', async () => {
    expect(await mayRead('descent', true)).toEqual([]);
  });

  it('may read none of its worker’s, which started it', async () => {
    expect(await mayRead('marks', true)).toEqual([]);
  });

  it('may read all of a host’s that embeds Belay, which decides that for itself', async () => {
    expect(await mayRead('marks', false)).toEqual(
      ['worker', 'parent'].flatMap((who) => ['environ', 'mem', 'fd'].map((file) => `may ${who} ${file}`)),
    );
  });

  it('may reach the data directory, its sockets and its siblings, and signal worker and guardian', async () => {
    const done = await attack({ containment: 'descent', isolation: 'same-user' });
    expect(done.filter((what) => !TRACED.has(what))).toEqual([
      'read the token',
      'list the data directory',
      'write into the data directory',
      'connect to a socket of the data directory',
      'stop the worker',
      'stop the guardian',
      'read the environment of the sibling',
      'list the descriptors of the sibling',
      'stop the sibling',
      'kill the sibling',
      'kill the guardian',
      'kill the worker',
    ]);
  });

  // By the user that the worker runs as: a machine may keep user namespaces from ordinary users.
  const [unshare = '', ...words] = asUser(
    'unshare',
    '--user',
    '--map-current-user',
    '--pid',
    '--fork',
    '--mount-proc',
    'true',
  );
  const noNamespace = spawnSync(unshare, words, { encoding: 'utf8' });
  if (noNamespace.status !== 0)
    process.stdout.write(`Agents in PID namespaces do not attack here: ${noNamespace.stderr}.\n`);
  (noNamespace.status === 0 ? it : it.skip).each(['auto', 'off'] as const)(
    'R51 in a PID namespace may reach files and sockets, and no process of Belay or of another agent, native %s',
    async (native) => {
      expect(await attack({ containment: 'namespace', isolation: 'same-user', native })).toEqual([
        'read the token',
        'list the data directory',
        'write into the data directory',
        'connect to a socket of the data directory',
      ]);
    },
  );

  it.each(['worker', 'orchestrator'])('finds the program %s closed', async (app) => {
    const env = {
      PATH: process.env['PATH'],
      BELAY_DATA_DIR: join(dir, 'data'),
      // Without a listener: the program goes on trying.
      BELAY_VALKEY_URL: 'redis://127.0.0.1:1',
      BELAY_TOKEN: 'a-token-that-is-long-enough-for-this',
    };
    const { pid } = start([process.execPath, join(PROGRAMS, `${app}.js`)], env);
    const owner = (): number | undefined => statSync(`/proc/${pid}/environ`, { throwIfNoEntry: false })?.uid;
    // Root's until setpriv(1) has become the program.
    await eventually('a program of the user', () => owner() !== undefined && owner() !== ROOT, 10_000);
    await eventually('its files are root’s', () => owner() === ROOT, 30_000);
    const [file = '', ...args] = asUser('cat', `/proc/${pid}/environ`);
    expect(spawnSync(file, args, { encoding: 'utf8' })).toMatchObject({ stdout: '' });
  });

  const noUsers = noOwnUsers();
  if (noUsers !== undefined)
    process.stdout.write(`Agents with users of their own are not attacked here: ${noUsers}.\n`);
  const containments = [
    ...expectedContainments(),
    ...(noNamespaces() === undefined ? ['namespace' as const] : []),
  ];
  (noUsers === undefined ? it : it.skip).each(containments)(
    'may do nothing of all that with a user of its own, containment %s',
    async (containment) => {
      const agentUids = AGENT_UIDS;
      expect(await attack({ containment, isolation: 'user', agentUids }, (...command) => command)).toEqual(
        [],
      );
    },
  );
});
