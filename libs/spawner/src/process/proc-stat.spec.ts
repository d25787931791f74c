import {
  bootId,
  findAlive,
  isRunning,
  listPids,
  parseStat,
  readEnvironment,
  readStat,
  ticksSinceBoot,
} from './proc-stat';

const line = (name: string, state = 'S', threads = 1) =>
  `42 (${name}) ${state} 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 ${threads} 0 12345 0 0`;

describe('/proc/PID/stat', () => {
  it.each(['sh', 'a b', 'odd) S 1 (name', '()'])('is read right for a program called %j', (name) => {
    expect(parseStat(line(name))).toEqual({
      pid: 42,
      command: name,
      state: 'S',
      parent: 7,
      group: 8,
      session: 9,
      threads: 1,
      startTime: '12345',
    });
  });

  it.each(['', 'no parentheses', '42 (sh) S 7'])('is refused where it is not whole: %j', (text) => {
    expect(parseStat(text)).toBeUndefined();
  });

  it.each([
    ['S', 1, true],
    ['T', 1, true],
    ['D', 1, true],
    ['Z', 1, false],
    ['X', 1, false],
    ['Z', 2, true], // the first thread has ended, others run on
  ])('R11 state %s with %d threads is running: %s', (state, threads, running) => {
    const stat = parseStat(line('sh', state, threads));
    expect(stat !== undefined && isRunning(stat)).toBe(running);
  });

  it('R21 finds a process only by pid and start time together', () => {
    const own = readStat(process.pid);
    if (own === undefined) throw new Error('no stat of our own');
    expect(findAlive(own)?.pid).toBe(process.pid);
    expect(findAlive({ pid: process.pid, startTime: '1' })).toBeUndefined();
    expect(readStat(2 ** 30)).toBeUndefined();
    expect(Number(own.startTime)).toBeLessThanOrEqual(ticksSinceBoot());
    expect(listPids()).toContain(process.pid);
    expect(bootId()).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('reads a variable only where an entry of the environment begins with it', () => {
    const path = readEnvironment(process.pid, 'PATH');
    expect(path).toHaveLength(1);
    expect(readEnvironment(process.pid, 'ATH')).toEqual([]);
    expect(readEnvironment(2 ** 30, 'PATH')).toEqual([]);
  });
});
