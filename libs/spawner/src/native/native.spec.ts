import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { canSpawn, posixSpawn, type SpawnPlan } from './posix-spawn';
import { openLibc, type Libc } from './libc';
import { NativeError } from './native-error';
import { openPidfd, signalPidfd } from './pidfd';
import { openPipe } from './pipe';
import { becomeSubreaper, isDumpable, isSubreaper, leaveSubreaper, setDumpable } from './prctl';
import { getResourceLimit, RLIMIT_LOCKS, setResourceLimit } from './resource-limit';
import { descriptorSocket, receiveDescriptors, sendDescriptors } from './pass-descriptors';
import { peekChild, reapChild, type ChildExit } from './wait-child';

const found = openLibc();
const without = 'reason' in found ? found.reason : undefined;
if (without !== undefined) process.stdout.write(`libc is not tested here: ${without}.\n`);
const libc = 'libc' in found ? found.libc : (undefined as unknown as Libc);
const describeNative = without === undefined ? describe : describe.skip;

async function until<T>(what: string, look: () => T | undefined): Promise<T> {
  const giveUpAt = performance.now() + 10_000;
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    if (performance.now() > giveUpAt) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const ended = (pid: number): Promise<ChildExit> =>
  until(`the end of ${pid}`, () => {
    const exit = reapChild(libc, pid);
    if (exit === 'not-a-child') throw new Error(`${pid} is no child`);
    return exit === 'running' ? undefined : exit;
  });

/** A field of /proc/PID/status; undefined when the process is gone. */
const status = (pid: number, field: string): string | undefined => {
  try {
    return new RegExp(`^${field}:\\s+(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  } catch {
    return undefined;
  }
};

function thrown(action: () => unknown): NativeError {
  try {
    action();
  } catch (error) {
    if (error instanceof NativeError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('without koffi', () => {
  it('says why, once, and throws nothing', () => {
    jest.isolateModules(() => {
      jest.doMock('koffi', () => {
        throw new Error('no binary for this platform\nsecond line');
      });
      const { openLibc: open } = require('./libc') as { openLibc: typeof openLibc };
      expect(open()).toEqual({ reason: 'koffi cannot be loaded (no binary for this platform)' });
      expect(open()).toBe(open());
      jest.dontMock('koffi');
    });
  });
});

describeNative('libc', () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });
  const sleeper = (): ChildProcess & { pid: number } => {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    children.push(child);
    return child as ChildProcess & { pid: number };
  };

  it('makes pipes that no child inherits', () => {
    const { reading, writing } = openPipe(libc);
    try {
      writeSync(writing, 'through');
      const bytes = Buffer.alloc(16);
      expect(bytes.toString('utf8', 0, readSync(reading, bytes))).toBe('through');
      const pipe = readlinkSync(`/proc/self/fd/${reading}`);
      expect(pipe).toMatch(/^pipe:/);
      const list = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
      expect(list.stdout).not.toContain(pipe);
      // By its name as an agent has it, although nothing in the file system has one.
      const again = openSync(`/proc/self/fd/${writing}`, constants.O_WRONLY);
      closeSync(again);
    } finally {
      closeSync(reading);
      closeSync(writing);
    }
  });

  it('is known by name', () => {
    expect(libc.name).toMatch(/^(glibc \d+\.\d+|musl)$/);
  });

  it('an errno becomes an error with the code that Node gives it', () => {
    const error = thrown(() => setResourceLimit(libc, 0, RLIMIT_LOCKS, { soft: 2n, hard: 1n }));
    expect(error).toMatchObject({ name: 'NativeError', code: 'EINVAL', errno: 22, syscall: 'prlimit' });
    expect(error.message).toBe('prlimit failed: invalid argument (EINVAL)');
    expect(new NativeError('x', 99_999).code).toBe('errno 99999');
  });

  describe('subreaper', () => {
    afterEach(() => leaveSubreaper(libc));

    it('an orphan in a session of its own, with nothing in its environment, becomes our child and can be reaped', async () => {
      expect(isSubreaper(libc)).toBe(false);
      becomeSubreaper(libc);
      expect(isSubreaper(libc)).toBe(true);
      const script = 'env -i setsid sh -c "sleep 1000 >/dev/null & echo \\$!" </dev/null 2>/dev/null';
      const { stdout } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
      const pid = Number(stdout);
      expect(
        await until('adoption', () => (status(pid, 'PPid') === String(process.pid) ? pid : undefined)),
      ).toBe(pid);
      expect(reapChild(libc, pid)).toBe('running');
      process.kill(pid, 'SIGTERM');
      expect(await ended(pid)).toEqual({ code: null, signal: 'SIGTERM' });
      expect(reapChild(libc, pid)).toBe('not-a-child');
    });

    it('adopted children that are reaped cost no child of child_process its exit event', async () => {
      becomeSubreaper(libc);
      const exits = Array.from({ length: 20 }, (_, i) => {
        const child = spawn('sh', ['-c', `(sleep 0.05 >&- & echo $!); exit ${i}`], {
          stdio: ['ignore', 'pipe', 'ignore'],
        });
        let orphan = '';
        child.stdout.on('data', (text: Buffer) => (orphan += text.toString()));
        return new Promise<[number | null, number]>((resolve) =>
          child.once('close', (code) => resolve([code, Number(orphan)])),
        );
      });
      const all = await Promise.all(exits);
      expect(all.map(([code]) => code)).toEqual(all.map((_, i) => i));
      for (const [, orphan] of all) expect(await ended(orphan)).toEqual({ code: 0, signal: null });
    });
  });

  it('a child that ended can be looked at, again and again, before it is reaped', async () => {
    const fds = ['r', 'w', 'w'].map((flag) => openSync('/dev/null', flag));
    const run = (script: string): number =>
      posixSpawn(libc, { file: '/bin/sh', argv: ['sh', '-c', script], env: {}, cwd: '/', fds });
    const expected: [string, ChildExit][] = [
      ['exit 7', { code: 7, signal: null }],
      ['kill -9 $$', { code: null, signal: 'SIGKILL' }],
    ];
    for (const [script, exit] of expected) {
      const pid = run(script);
      await until('its end', () => (status(pid, 'State')?.startsWith('Z') === true ? pid : undefined));
      expect([peekChild(libc, pid), peekChild(libc, pid)]).toEqual([exit, exit]);
      expect(reapChild(libc, pid)).toEqual(exit);
      expect(peekChild(libc, pid)).toBe('not-a-child');
    }
    const sleeping = run('exec sleep 1000');
    expect(peekChild(libc, sleeping)).toBe('running');
    process.kill(sleeping, 'SIGKILL');
    await ended(sleeping);
    for (const fd of fds) closeSync(fd);
  });

  it('descriptors sent through a socket are the same files, in their order, and closed on exec', () => {
    const [ours, theirs] = descriptorSocket(libc);
    const sent = ['/dev/null', '/dev/zero', '/proc/self/stat'].map((path) => openSync(path, 'r'));
    expect(receiveDescriptors(libc, theirs)).toBeUndefined();
    sendDescriptors(libc, ours, 4_000_000_000, sent);
    sendDescriptors(libc, ours, 2, []);
    for (const fd of sent) closeSync(fd);
    const { tag, fds } = receiveDescriptors(libc, theirs) ?? { tag: 0, fds: [] };
    expect(tag).toBe(4_000_000_000);
    const paths = fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`));
    expect(paths).toEqual(['/dev/null', '/dev/zero', `/proc/${process.pid}/stat`]);
    for (const fd of fds)
      expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')).toMatch(/^flags:\s+02\d{6}$/m);
    expect(receiveDescriptors(libc, theirs)).toEqual({ tag: 2, fds: [] });
    for (const fd of [...fds, theirs]) closeSync(fd);
    expect(thrown(() => sendDescriptors(libc, ours, 3, [0])).code).toBe('EPIPE');
    closeSync(ours);
  });

  it('a process that is not dumpable hides its environment, and its children do not inherit that', () => {
    const environ = (): string => readFileSync('/proc/self/environ', 'latin1');
    expect(isDumpable(libc)).toBe(true);
    setDumpable(libc, false);
    try {
      expect(isDumpable(libc)).toBe(false);
      // Root may read everything.
      if (process.getuid?.() !== 0) expect(environ).toThrow('EACCES');
      const { stdout } = spawnSync('sh', ['-c', 'tr "\\0" "\\n" </proc/self/environ'], {
        env: { PATH: process.env['PATH'], SEEN: '1' },
        encoding: 'utf8',
      });
      expect(stdout).toContain('SEEN=1');
    } finally {
      setDumpable(libc, true);
    }
    expect(environ()).toContain('PATH=');
  });

  describe('pidfd', () => {
    it('signals the process it was opened for', async () => {
      const child = sleeper();
      const exit = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
      const pidfd = openPidfd(libc, child.pid);
      if (pidfd === undefined) throw new Error('no descriptor for a process that runs');
      expect(signalPidfd(libc, pidfd, 'SIGTERM')).toBe(true);
      expect(await exit).toBe('SIGTERM');
      expect(signalPidfd(libc, pidfd, 'SIGKILL')).toBe(false);
      closeSync(pidfd);
    });

    it('is undefined for a free pid, and for the number of a thread', () => {
      const { pid } = spawnSync('true');
      expect(openPidfd(libc, pid)).toBeUndefined();
      const thread =
        readdirSync('/proc/self/task')
          .map(Number)
          .find((id) => id !== process.pid) ?? 0;
      expect(openPidfd(libc, thread)).toBeUndefined();
    });

    const forcible = process.getuid?.() === 0;
    (forcible ? it : it.skip)('R21 never reaches the stranger that was given the pid', async () => {
      for (let attempt = 0; ; attempt += 1) {
        const child = sleeper();
        const pidfd = openPidfd(libc, child.pid);
        if (pidfd === undefined) throw new Error('no descriptor for a process that runs');
        const exit = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await exit;
        // The next process gets the number after this one.
        const script = `echo ${child.pid - 1} >/proc/sys/kernel/ns_last_pid; sleep 1000 & echo $!; exec >&-; wait`;
        const shell = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
        const stranger = await new Promise((resolve) =>
          shell.stdout.once('data', (text: Buffer) => resolve(Number(text.toString()))),
        );
        try {
          if (stranger !== child.pid && attempt < 50) continue;
          expect(stranger).toBe(child.pid);
          expect(signalPidfd(libc, pidfd, 'SIGKILL')).toBe(false);
          expect(status(child.pid, 'State')).toMatch(/^[SRD]/);
          return;
        } finally {
          closeSync(pidfd);
          if (shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL');
        }
      }
    });
  });

  it('reads the exit codes and signals of a child, and refuses to wait for any child', async () => {
    const start = (script: string): number =>
      posixSpawn(libc, plan({ file: '/bin/sh', argv: ['sh', '-c', script] }));
    expect(await ended(start('exit 42'))).toEqual({ code: 42, signal: null });
    expect(await ended(start('kill -9 $$'))).toEqual({ code: null, signal: 'SIGKILL' });
    expect(() => reapChild(libc, -1)).toThrow('no pid of one child: -1');
    expect(() => reapChild(libc, 0)).toThrow('no pid of one child: 0');
    expect(reapChild(libc, 1)).toBe('not-a-child');
  });

  it('reads and sets the limits of another process, and returns the former ones', () => {
    const { pid } = sleeper();
    const before = getResourceLimit(libc, pid, RLIMIT_LOCKS);
    expect(setResourceLimit(libc, pid, RLIMIT_LOCKS, { soft: 7n, hard: 2n ** 61n + 3n })).toEqual(before);
    expect(getResourceLimit(libc, pid, RLIMIT_LOCKS)).toEqual({ soft: 7n, hard: 2n ** 61n + 3n });
    const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
    expect(limits).toMatch(/Max file locks +7 +2305843009213693955 /);
    expect(getResourceLimit(libc, 0, RLIMIT_LOCKS)).toEqual(before);
    expect(thrown(() => getResourceLimit(libc, spawnSync('true').pid, RLIMIT_LOCKS)).code).toBe('ESRCH');
  });

  describe('posix_spawn', () => {
    const folder = realpathSync(tmpdir());
    const nothing = openSync('/dev/null', 'r+');
    afterAll(() => closeSync(nothing));

    it('can be used here', () => {
      expect(canSpawn(libc)).toBe(libc.name !== 'musl');
    });

    it('gives a session of its own, the directory, the environment, and no descriptor but those asked for', async () => {
      const out = outputPipe();
      const inherited = openSync('/dev/null', constants.O_RDONLY);
      const script =
        'for fd in 0 1 2 3 4 5 6 7 8 9 20 21 22 23 24 25; do [ -e /proc/$$/fd/$fd ] && all="$all $fd"; done; echo "$0|$1|$A b|$(pwd)|$all"; echo "$(cut -d" " -f5,6 /proc/$$/stat) $$ $PPID"';
      const pid = posixSpawn(libc, {
        file: '/bin/sh',
        argv: ['sh', '-c', script, 'name with space', 'ü'],
        env: { A: 'x=1\ny', PATH: process.env['PATH'] ?? '' },
        cwd: folder,
        fds: [nothing, out.write, nothing, nothing],
      });
      closeSync(out.write);
      const lines = out.read().split('\n');
      closeSync(inherited);
      expect(await ended(pid)).toEqual({ code: 0, signal: null });
      expect(lines[0]).toBe('name with space|ü|x=1');
      expect(lines[1]).toBe(`y b|${folder}| 0 1 2 3`);
      expect(lines[2]).toBe(`${pid} ${pid} ${pid} ${process.pid}`);
    });

    it('descriptors that stand in each other’s places are moved, not lost', async () => {
      const out = outputPipe();
      const pid = posixSpawn(libc, {
        ...plan({
          file: '/bin/sh',
          argv: ['sh', '-c', 'all=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); echo "$all" >&3'],
        }),
        fds: [2, 0, 1, out.write],
      });
      closeSync(out.write);
      const lines = out.read().trim().split('\n');
      expect(await ended(pid)).toEqual({ code: 0, signal: null });
      expect(lines).toEqual([2, 0].map((fd) => readlinkSync(`/proc/self/fd/${fd}`)));
    });

    it('resets the signals that Node ignores', async () => {
      const out = outputPipe();
      const pid = posixSpawn(libc, {
        ...plan({ file: '/bin/grep', argv: ['grep', '-E', 'Sig(Ign|Blk)', '/proc/self/status'] }),
        fds: [nothing, out.write],
      });
      closeSync(out.write);
      expect(out.read()).toBe('SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n');
      expect(await ended(pid)).toEqual({ code: 0, signal: null });
    });

    it.each<[string, Partial<SpawnPlan>, string]>([
      ['a program that is not there', { file: '/nonexistent' }, 'ENOENT'],
      ['a directory that is not there', { cwd: '/nonexistent' }, 'ENOENT'],
      ['a program that may not be executed', { file: '/etc/passwd' }, 'EACCES'],
      ['a directory for a program', { file: '/' }, 'EACCES'],
      ['a path through a file', { file: '/etc/passwd/x' }, 'ENOTDIR'],
      ['arguments that are too long', { argv: ['x', 'y'.repeat(4_000_000)] }, 'E2BIG'],
      ['a zero byte in an argument', { argv: ['x', 'a\0b'] }, 'EINVAL'],
      ['a zero byte in a variable', { env: { A: 'a\0b' } }, 'EINVAL'],
      ['a descriptor that is not open', { fds: [999] }, 'EBADF'],
    ])('%s is refused at once', (_, part, code) => {
      const before = childrenOfOurs();
      expect(thrown(() => posixSpawn(libc, { ...plan({}), ...part })).code).toBe(code);
      expect(childrenOfOurs()).toEqual(before);
    });

    it('leaks no descriptor and no process over 500 starts', async () => {
      const before = readdirSync('/proc/self/fd').length;
      for (let i = 0; i < 500; i += 1)
        await ended(posixSpawn(libc, plan({ file: '/bin/true', argv: ['true'] })));
      expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before);
    });

    it('an environment of a megabyte arrives whole', async () => {
      const env = Object.fromEntries(
        Array.from({ length: 10 }, (_, i) => [`V${i}`, String(i).repeat(100_000)]),
      );
      const out = outputPipe();
      const pid = posixSpawn(libc, {
        ...plan({ file: '/bin/sh', argv: ['sh', '-c', 'echo ${#V0} ${#V9}'] }),
        env,
        fds: [nothing, out.write],
      });
      closeSync(out.write);
      expect(out.read()).toBe('100000 100000\n');
      expect(await ended(pid)).toEqual({ code: 0, signal: null });
    });
  });
});

function plan(part: Partial<SpawnPlan>): SpawnPlan {
  return {
    file: '/bin/true',
    argv: ['true'],
    env: { PATH: '/usr/bin:/bin' },
    cwd: '/',
    fds: [0, 1, 2],
    ...part,
  };
}

function childrenOfOurs(): string {
  return readdirSync('/proc/self/task')
    .map((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8'))
    .join('');
}

/** A pipe for the output of a child, which is read to its end. */
function outputPipe(): { write: number; read: () => string } {
  const { reading, writing: write } = openPipe(libc);
  return {
    write,
    read: () => {
      const text = readFileSync(reading, 'utf8');
      closeSync(reading);
      return text;
    },
  };
}
