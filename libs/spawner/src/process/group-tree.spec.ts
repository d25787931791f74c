import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { eventually } from '../../../../test/support/proc';
import { NOISE_MS } from '../../../../test/support/wait';
import { GroupTree } from './group-tree';
import { readStat, type ProcStat } from './proc-stat';
import type { Sweep, Sweeper, SweptProcess } from './sweep';

const COOKIE = 'cookie-of-this-tree';

describe('R22 a freeze without a cgroup', () => {
  let child: ChildProcess;
  let leader: ProcStat;
  beforeEach(() => {
    child = spawn('sleep', ['600'], { stdio: 'ignore', detached: true });
    const stat = readStat(child.pid ?? 0);
    if (stat === undefined) throw new Error('no process');
    leader = stat;
  });
  afterEach(async () => {
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });

  /** A tree of which each pass sees the leader unchanged, and the given processes besides. */
  function treeOf(passes: readonly { sound: boolean; more?: SweptProcess }[]) {
    let at = 0;
    const sweep = async (): Promise<Sweep> => {
      const { sound, more } = passes[Math.min(at, passes.length - 1)] ?? { sound: true };
      at += 1;
      const first = { ...(readStat(leader.pid) ?? leader), cookies: [COOKIE] };
      const seen = [first, ...(more === undefined ? [] : [more])];
      const pass: Sweep = {
        sound,
        byPid: new Map(seen.map((one) => [one.pid, one])),
        byCookie: new Map([[COOKIE, seen]]),
        bySession: new Map(),
        children: new Map(),
      };
      tree.absorb(pass);
      return pass;
    };
    const sweeper = { sweep } as unknown as Sweeper;
    const tree: GroupTree = new GroupTree({ leader, cookie: COOKIE, sweeper });
    return { tree, passes: () => at };
  }

  it('goes on looking until a pass missed none', async () => {
    const { tree, passes } = treeOf([...times(5, { sound: false }), { sound: true }]);
    await tree.freeze();
    expect(passes()).toBeGreaterThanOrEqual(6);
    expect(readStat(leader.pid)?.state).toBe('T');
  });

  it('is not over when a pass saw one run that has ended since: its child may run', async () => {
    const ended = spawn('true', { stdio: 'ignore' });
    const more: SweptProcess = {
      ...leader,
      pid: ended.pid ?? 0,
      startTime: '1',
      state: 'R',
      cookies: [COOKIE],
    };
    await once(ended, 'exit');
    const { tree, passes } = treeOf([...times(5, { sound: true, more }), { sound: true }]);
    await tree.freeze();
    expect(passes()).toBeGreaterThanOrEqual(6);
  });

  it('that is thawed in the middle resumes the processes that it stopped, and one without a sound pass ends with TIMEOUT', async () => {
    const { tree } = treeOf([{ sound: false }]);
    const freezing = tree.freeze();
    await eventually('it is stopped', () => readStat(leader.pid)?.state === 'T', NOISE_MS);
    tree.thaw();
    await freezing;
    await eventually('it goes on', () => readStat(leader.pid)?.state === 'S', NOISE_MS);
    await expect(tree.freeze()).rejects.toMatchObject({ code: 'TIMEOUT' });
  }, 30_000);
});

const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);
