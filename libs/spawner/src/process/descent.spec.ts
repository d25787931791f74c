import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { eventually } from '../../../../test/support/proc';
import { openLibc, reapChild, type Libc } from '../native';
import { theDescent } from './descent';
import type { DescentUser } from './descent.types';
import { readStat } from './proc-stat';

const found = openLibc();
const libc = 'libc' in found ? found.libc : (undefined as unknown as Libc);
const describeNative = 'libc' in found ? describe : describe.skip;
const itAsRoot = process.getuid?.() === 0 ? it : it.skip;

/** A host without a guardian. */
const hostOf = (ownsProcess: boolean): DescentUser => ({
  ownsProcess,
  cookie: 'none',
  guardian: { pid: undefined, starts: undefined },
  onEscapee: () => undefined,
});

/**
 * An orphan of this process that is dead already, with the init of a PID namespace where that is asked for. No turn of the event
 * loop passes meanwhile, so nothing has reaped it.
 */
function deadOrphan(place: 'here' | 'namespace' = 'here'): number {
  const script = 'setsid sleep 0.1 >/dev/null & echo $!';
  const command: [string, ...string[]] = place === 'here' ? ['sh'] : ['unshare', '--pid', 'sh'];
  const [program, ...args] = [...command, '-c', script];
  const orphan = Number(spawnSync(program, args, { encoding: 'utf8' }).stdout);
  while (!['Z', undefined].includes(readStat(orphan)?.state)) spawnSync('true');
  expect(readStat(orphan)).toMatchObject({ state: 'Z', parent: process.pid });
  return orphan;
}

/** A child for which libuv waits, and which is dead. No turn of the event loop passes meanwhile. */
function deadChild(script: string): ChildProcess {
  const child = spawn('sh', ['-c', script], { stdio: 'ignore' });
  // Where it was reaped by other code, its handle would keep this process alive.
  child.unref();
  while (readStat(child.pid ?? 0)?.state !== 'Z') spawnSync('true');
  return child;
}

describeNative('containment by descent', () => {
  const descent = theDescent(libc);
  const hosts: DescentUser[] = [];
  const enter = (host: DescentUser): DescentUser => {
    descent.enter(host);
    hosts.push(host);
    return host;
  };
  afterEach(() => {
    for (const host of hosts.splice(0)) descent.leave(host);
  });

  it('R51 a dead orphan that nobody has reaped yet makes no pass unsound', async () => {
    enter(hostOf(true));
    const orphan = deadOrphan();
    expect((await descent.sweeper.sweep()).sound).toBe(true);
    await descent.look();
    expect(readStat(orphan)).toBeUndefined();
  });

  it('R54 a dead orphan is reaped where nobody looks at the trees', async () => {
    enter(hostOf(true));
    const orphan = deadOrphan();
    await eventually('the orphan reaped', () => readStat(orphan) === undefined, 10_000);
    expect(readStat(orphan)).toBeUndefined();
  });

  itAsRoot(
    'R54 in a host program, an orphan of an agent’s PID namespace is reaped, another is not',
    async () => {
      enter(hostOf(false));
      const [other, namespaced] = [deadOrphan(), deadOrphan('namespace')];
      await eventually('the orphan reaped', () => readStat(namespaced) === undefined, 10_000);
      expect(readStat(other)?.state).toBe('Z');
      reapChild(libc, other);
    },
  );

  it('R48 reaps no child that other code of this process started and waits for', async () => {
    const host = enter(hostOf(true));
    // Longer than the pause between two reaps: the next one comes before libuv has reaped the child.
    const child = deadChild('sleep 0.4; exit 7');
    await eventually('the exit told', () => child.exitCode === 7, 10_000);
    const last = deadChild('exit 8');
    descent.leave(host);
    await eventually('the exit told', () => last.exitCode === 8, 10_000);
    expect([child.exitCode, last.exitCode]).toEqual([7, 8]);
  });

  it('R54 the last host reaps the dead orphans before it leaves', () => {
    const host = enter(hostOf(true));
    const orphan = deadOrphan();
    descent.leave(host);
    expect(readStat(orphan)).toBeUndefined();
  });

  it('R51 R26 ends an orphan that belongs to no tree with all that it started, and says so only then', async () => {
    const told: number[] = [];
    enter({ ...hostOf(true), onEscapee: ({ pid }) => told.push(pid) });
    // As a guardian leaves it that died over a start: three generations, deaf, each in a session of its own.
    const script = `trap '' TERM; setsid sh -c 'echo $$; setsid sleep 600 & echo $!; wait' & echo $!; wait`;
    const parent = spawn('sh', ['-c', `setsid sh -c "$0" </dev/null &`, script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const exit = once(parent, 'exit');
    const pids: number[] = [];
    for await (const line of createInterface({ input: parent.stdout }))
      if (pids.push(Number(line)) === 3) break;
    await exit;
    expect(await descent.endUnknown(10_000)).toBe(true);
    const alive = pids.filter((pid) => !['Z', undefined].includes(readStat(pid)?.state));
    expect(alive).toEqual([]);
    expect(told.length).toBeGreaterThan(1);
  });

  it('R26 R51 ends it also where looks fail for a while, as without a descriptor', async () => {
    enter(hostOf(true));
    const orphan = Number(
      spawnSync('sh', ['-c', 'setsid sleep 600 >/dev/null 2>&1 & echo $!'], { encoding: 'utf8' }).stdout,
    );
    const look = descent.look.bind(descent);
    let failed = 0;
    jest.spyOn(descent, 'look').mockImplementation(async () => {
      if ((failed += 1) <= 3) throw new Error('EMFILE');
      return look();
    });
    expect(await descent.endUnknown(10_000)).toBe(true);
    jest.restoreAllMocks();
    expect(['Z', undefined]).toContain(readStat(orphan)?.state);
  });

  it('R48 a look that outlasts the last host touches no child of the process', async () => {
    const told: number[] = [];
    const host = enter({ ...hostOf(true), onEscapee: ({ pid }) => told.push(pid) });
    const look = descent.look();
    descent.leave(host);
    const child = spawn('sleep', ['60']);
    const exit = once(child, 'exit');
    await look;
    // If the look took the child for an agent's orphan, it had another signal already.
    child.kill('SIGTERM');
    expect(await exit).toEqual([null, 'SIGTERM']);
    expect(told).toEqual([]);
  });
});
