import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readStat, type ProcStat } from './proc-stat';
import type { ProcessTree } from './process-tree';
import type { UidSweeper } from './uid-sweep';
import { UidTree } from './uid-tree';

describe('R22 R51 a freeze of a tree with a user of its own', () => {
  let child: ChildProcess;
  let stray: ProcStat;
  beforeEach(() => {
    child = spawn('sleep', ['600'], { stdio: 'ignore', detached: true });
    const stat = readStat(child.pid ?? 0);
    if (stat === undefined) throw new Error('no process');
    stray = stat;
  });
  afterEach(async () => {
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });

  /** Its containment has no process; the first passes see the one process in that state. */
  function treeWith(states: readonly string[]) {
    let passes = 0;
    const sweep = async () => {
      const seen = { ...(readStat(stray.pid) ?? stray) };
      const state = states[passes] ?? seen.state;
      passes += 1;
      return { sound: true, of: () => [{ ...seen, state }] };
    };
    const inner = { containment: 'marks', freeze: async () => undefined, thaw: () => undefined };
    const tree = new UidTree({
      inner: inner as unknown as ProcessTree,
      uid: 1,
      sweeper: { sweep } as unknown as UidSweeper,
      libc: undefined,
      giveBack: async () => undefined,
    });
    return { tree, passes: () => passes };
  }

  it('stops a process that waits for a disk as it is looked at: it would go on once the disk answers', async () => {
    const { tree, passes } = treeWith(['D', 'D']);
    await tree.freeze();
    expect(readStat(stray.pid)?.state).toBe('T');
    expect(passes()).toBeGreaterThan(1);
    tree.thaw();
    expect(readStat(stray.pid)?.state).not.toBe('T');
  });
});
