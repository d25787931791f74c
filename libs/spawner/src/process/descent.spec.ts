import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { eventually } from '../../../../test/support/proc';
import { openLibc, reapChild } from '../native';
import { theDescent, type DescentUser } from './descent';
import { readStat } from './proc-stat';

const found = openLibc();
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
  it('R51 a dead orphan that nobody has reaped yet makes no pass unsound', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const user = hostOf(true);
    descent.enter(user);
    try {
      const orphan = deadOrphan();
      expect((await descent.sweeper.sweep()).sound).toBe(true);
      await descent.look();
      expect(readStat(orphan)).toBeUndefined();
    } finally {
      descent.leave(user);
    }
  });

  it('R54 a dead orphan is reaped where nobody looks at the trees', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const user = hostOf(true);
    descent.enter(user);
    try {
      const orphan = deadOrphan();
      await eventually('the orphan reaped', () => readStat(orphan) === undefined, 10_000);
      expect(readStat(orphan)).toBeUndefined();
    } finally {
      descent.leave(user);
    }
  });

  itAsRoot(
    'R54 in a host program, an orphan of an agent’s PID namespace is reaped, another is not',
    async () => {
      if (!('libc' in found)) throw new Error(found.reason);
      const descent = theDescent(found.libc);
      const user = hostOf(false);
      descent.enter(user);
      try {
        const [other, namespaced] = [deadOrphan(), deadOrphan('namespace')];
        await eventually('the orphan reaped', () => readStat(namespaced) === undefined, 10_000);
        expect(readStat(other)?.state).toBe('Z');
        reapChild(found.libc, other);
      } finally {
        descent.leave(user);
      }
    },
  );

  it('R48 reaps no child that other code of this process started and waits for', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const user = hostOf(true);
    descent.enter(user);
    try {
      // Longer than the pause between two reaps: the next one comes before libuv has reaped the child.
      const child = deadChild('sleep 0.4; exit 7');
      await eventually('the exit told', () => child.exitCode === 7, 10_000);
      const last = deadChild('exit 8');
      descent.leave(user);
      await eventually('the exit told', () => last.exitCode === 8, 10_000);
      expect([child.exitCode, last.exitCode]).toEqual([7, 8]);
    } finally {
      descent.leave(user);
    }
  });

  it('R54 the last host reaps the dead orphans before it leaves', () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const user = hostOf(true);
    descent.enter(user);
    const orphan = deadOrphan();
    descent.leave(user);
    expect(readStat(orphan)).toBeUndefined();
  });

  it('R51 R26 ends an orphan that belongs to no tree with all that it started, and says so only then', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const told: number[] = [];
    const user: DescentUser = { ...hostOf(true), onEscapee: ({ pid }) => told.push(pid) };
    descent.enter(user);
    try {
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
    } finally {
      descent.leave(user);
    }
  });

  it('R48 a look that outlasts the last host touches no child of the process', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const told: number[] = [];
    const user: DescentUser = { ...hostOf(true), onEscapee: ({ pid }) => told.push(pid) };
    descent.enter(user);
    const look = descent.look();
    descent.leave(user);
    const child = spawn('sleep', ['60']);
    const exit = once(child, 'exit');
    await look;
    // If the look took the child for an agent's orphan, it had another signal already.
    child.kill('SIGTERM');
    expect(await exit).toEqual([null, 'SIGTERM']);
    expect(told).toEqual([]);
  });
});
