import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { openLibc, type Libc } from '../native';
import { readStat, type PidStart } from './proc-stat';
import { signalListed, signalProcess } from './signal-process';

const found = openLibc();
const ways: [string, Libc | undefined][] = [['by number', undefined]];
if ('libc' in found) ways.push(['by descriptor', found.libc]);

describe.each(ways)('signals %s', (_, libc) => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });
  function sleeper(): { process: PidStart; ended: Promise<unknown> } {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    children.push(child);
    const stat = readStat(child.pid ?? 0);
    if (stat === undefined) throw new Error('sleep did not start');
    return {
      process: stat,
      ended: new Promise((resolve) => child.once('exit', (__, signal) => resolve(signal))),
    };
  }
  const descriptors = (): number => readdirSync('/proc/self/fd').length;

  it('R21 reach the process that is meant, and no other with its number', async () => {
    const { process: one, ended } = sleeper();
    const before = descriptors();
    expect(signalProcess({ pid: one.pid, startTime: '1' }, 'SIGKILL', libc)).toBe(false);
    expect(readStat(one.pid)?.state).toMatch(/[SR]/);
    expect(signalProcess(one, 'SIGTERM', libc)).toBe(true);
    expect(await ended).toBe('SIGTERM');
    expect(signalProcess(one, 'SIGKILL', libc)).toBe(false);
    expect(descriptors()).toBe(before);
  });

  it('reach every process on a list, also more than the descriptors held at a time', async () => {
    const all = Array.from({ length: 70 }, sleeper);
    const before = descriptors();
    const sent: string[] = [];
    const list = all.map(({ process: { pid } }) => pid);
    signalListed(
      () => list,
      ['SIGTERM', 'SIGCONT'],
      libc,
      (pid, signal) => sent.push(`${signal} ${pid}`),
    );
    expect(sent).toEqual(list.flatMap((pid) => [`SIGTERM ${pid}`, `SIGCONT ${pid}`]));
    expect(await Promise.all(all.map(({ ended }) => ended))).toEqual(list.map(() => 'SIGTERM'));
    expect(descriptors()).toBe(before);
  });
});

if ('libc' in found)
  it('R21 do not reach a process that left the list while its descriptor was opened', async () => {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const looks = [[child.pid ?? 0], []];
    const sent: number[] = [];
    signalListed(
      () => looks.shift() ?? [],
      ['SIGKILL'],
      found.libc,
      (pid) => sent.push(pid),
    );
    expect(sent).toEqual([]);
    expect(readStat(child.pid ?? 0)?.state).toMatch(/[SR]/);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
  });
