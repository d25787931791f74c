import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Cgroup } from './cgroup';
import { CgroupTree } from './cgroup-tree';
import { readStat } from './proc-stat';
import { StopRecord } from './stop-record';
import type { Sweeper } from './sweep';

describe('R51 a kill of a cgroup', () => {
  it('reports that its first process joins at that moment: a process killed on the way to its command did not end by itself', async () => {
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    const leader = readStat(child.pid ?? 0);
    if (leader === undefined) throw new Error('no process');
    const exited = once(child, 'exit');
    // The process is absent at the look, and present at the kill.
    const cgroup = {
      populated: () => false,
      pids: () => [child.pid],
      kill: () => child.kill('SIGKILL'),
    } as unknown as Cgroup;
    const tree = new CgroupTree({ leader, cookie: 'cookie', cgroup, sweeper: {} as Sweeper });
    const record = new StopRecord('cgroup');
    tree.kill(record);
    await exited;
    expect(record.report([]).signals).toMatchObject([{ signal: 'SIGKILL', to: 'cgroup' }]);
    // The report does not claim a process that has ended by then.
    tree.markReaped();
    const later = new StopRecord('cgroup');
    tree.kill(later);
    expect(later.report([]).signals).toEqual([]);
  });
});
