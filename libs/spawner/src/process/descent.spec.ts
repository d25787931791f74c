import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { openLibc } from '../native';
import { theDescent, type DescentUser } from './descent';
import { readStat } from './proc-stat';

const found = openLibc();
const describeNative = 'libc' in found ? describe : describe.skip;

describeNative('containment by descent', () => {
  it('R51 a dead orphan that nobody has reaped yet makes no pass unsound', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const user: DescentUser = {
      ownsProcess: true,
      cookie: 'none',
      guardian: { pid: undefined, starts: undefined },
      onEscapee: () => undefined,
    };
    descent.enter(user);
    try {
      const { stdout } = spawnSync('sh', ['-c', 'setsid sleep 0.3 >/dev/null & echo $!'], {
        encoding: 'utf8',
      });
      const orphan = Number(stdout);
      const giveUpAt = performance.now() + 10_000;
      while (readStat(orphan)?.state !== 'Z' && performance.now() < giveUpAt)
        await new Promise((resolve) => setTimeout(resolve, 2));
      expect(readStat(orphan)).toMatchObject({ state: 'Z', parent: process.pid });
      expect((await descent.sweeper.sweep()).sound).toBe(true);
      // The look reaps it.
      await descent.look();
      expect(readStat(orphan)).toBeUndefined();
    } finally {
      descent.leave(user);
    }
  });

  it('R51 R26 ends an orphan that belongs to no tree with all that it started, and says so only then', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const descent = theDescent(found.libc);
    const told: number[] = [];
    const user: DescentUser = {
      ownsProcess: true,
      cookie: 'none',
      guardian: { pid: undefined, starts: undefined },
      onEscapee: ({ pid }) => told.push(pid),
    };
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
    const user: DescentUser = {
      ownsProcess: true,
      cookie: 'none',
      guardian: { pid: undefined, starts: undefined },
      onEscapee: ({ pid }) => told.push(pid),
    };
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
