import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
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
