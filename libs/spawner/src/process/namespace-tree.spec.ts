import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { NamespaceTree } from './namespace-tree';
import { findAlive, readStat, type PidStart } from './proc-stat';
import type { ProcessTree } from './process-tree';
import { StopRecord } from './stop-record';

describe('R51 a tree in a PID namespace', () => {
  /** Stands for init: the tree is only told its pid and start time. */
  let child: ChildProcess;
  let init: PidStart;
  beforeEach(() => {
    child = spawn('sleep', ['600'], { stdio: 'ignore' });
    const stat = readStat(child.pid ?? 0);
    if (stat === undefined) throw new Error('no process');
    init = stat;
  });
  afterEach(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });

  /** Its first process has ended, and what it asks of the other containment is noted. */
  function newTree() {
    const asked: string[] = [];
    const inner = {
      leader: { pid: init.pid, startTime: '1' },
      quiet: () => true,
      kill: () => void asked.push('kill'),
      processes: () => [],
      search: async () => void asked.push('search'),
      proveEmpty: async (record: StopRecord) => {
        asked.push('prove');
        record.proof('sweep-empty');
        return true;
      },
    };
    const tree = new NamespaceTree({ inner: inner as unknown as ProcessTree, libc: undefined });
    return { tree, asked, record: new StopRecord('namespace') };
  }

  it('is proved dead once init has ended, which its proof ends if nothing else is left', async () => {
    const { tree, asked, record } = newTree();
    tree.begun(init);
    expect(tree.quiet()).toBe(true);
    expect(await tree.proveEmpty(record, false)).toBe(true);
    expect(findAlive(init)).toBeUndefined();
    expect(record.kinds()).toEqual(['namespace-ended']);
    expect(record.report([])).toMatchObject({ escalated: false, signals: [] });
    expect(asked).toEqual([]);
  });

  it('signals no stranger that was given the pid of init, which has ended then', async () => {
    const { tree, record } = newTree();
    tree.begun({ pid: init.pid, startTime: '1' });
    tree.kill(record);
    expect(await tree.proveEmpty(record, true)).toBe(true);
    expect(findAlive(init)).toBeDefined();
    expect(record.report([]).signals).toEqual([]);
  });

  it('is not dead while a process below init lives', async () => {
    const parent = spawn('sh', ['-c', 'sleep 600 & echo; wait'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const exited = once(parent, 'exit');
    await once(parent.stdout, 'data');
    const stat = readStat(parent.pid ?? 0);
    if (stat === undefined) throw new Error('no process');
    const { tree, asked, record } = newTree();
    tree.begun(stat);
    expect(tree.quiet()).toBe(false);
    const below = tree.processes();
    expect(below).toMatchObject([{ pid: expect.any(Number) }]);
    expect(await tree.proveEmpty(record, false)).toBe(false);
    expect(asked).toEqual(['search']);
    expect(findAlive(stat)).toBeDefined();
    for (const process_ of below) process.kill(process_.pid, 'SIGKILL');
    await exited;
  });

  it('the first report counts', async () => {
    const { tree, record } = newTree();
    tree.begun(init);
    tree.begun({ pid: 1, startTime: '1' });
    expect(await tree.proveEmpty(record, false)).toBe(true);
    expect(record.report([]).evidence[0]?.detail).toContain(`process ${init.pid},`);
  });

  it('without init nothing of the agent has run, and its other containment ends and proves it', async () => {
    const { tree, asked, record } = newTree();
    tree.begun(undefined);
    tree.kill(record);
    expect(await tree.proveEmpty(record, true)).toBe(true);
    // Without a grace, and the report of the agent's end does not show it.
    expect(tree.quiet()).toBe(true);
    expect(record.report([]).signals).toEqual([]);
    expect(asked).toEqual(['kill', 'kill', 'prove']);
    expect(record.kinds()).toEqual(['sweep-empty']);
    expect(findAlive(init)).toBeDefined();
  });
});
