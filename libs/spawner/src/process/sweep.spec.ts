import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type * as kernelFile from './read-kernel-file';
import type * as sweepModule from './sweep';
import { COOKIE_VARIABLE, Sweeper } from './sweep';
import { TimeSliceQueue } from './time-slice-queue';

describe('one pass over /proc for all callers', () => {
  it('serves a thousand simultaneous callers with one pass, and later callers with the next', async () => {
    const sweeper = new Sweeper();
    const first = Array.from({ length: 1_000 }, () => sweeper.sweep());
    const [one, ...others] = await Promise.all(first);
    expect(new Set([one, ...others]).size).toBe(1);
    expect(sweeper.passes).toBe(1);
    await sweeper.sweep();
    expect(sweeper.passes).toBe(2);
  });

  it('gives who asks during a pass one that begins later', async () => {
    let duringPass: Promise<unknown> | undefined;
    const sweeper = new Sweeper(undefined, () => {
      duringPass ??= sweeper.sweep();
    });
    const pass = await sweeper.sweep();
    expect(await duringPass).not.toBe(pass);
    expect(sweeper.passes).toBe(2);
  });

  it('R21 is sound only when no chain of short-lived processes went by it unseen', async () => {
    const cookie = randomBytes(16).toString('hex');
    const script = join(__dirname, '../../../../test/fixtures/fork-loop.sh');
    const env = { PATH: process.env['PATH'], [COOKIE_VARIABLE]: cookie, SETSID: 'setsid', LIMIT: '400' };
    const loop = spawn(script, { env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
    await once(loop.stdout, 'data');
    // The pipe ends with the last process that has it: the truth to compare with.
    let over = false;
    loop.stdout.once('end', () => (over = true)).resume();
    loop.kill('SIGKILL');
    await once(loop, 'exit');
    const sweeper = new Sweeper();
    for (;;) {
      const { byCookie, sound } = await sweeper.sweep();
      if (sound && !byCookie.has(cookie)) break;
    }
    await Promise.race([once(loop.stdout, 'end'), pause(over ? 0 : 300)]);
    expect(over).toBe(true);
  });

  it('R21 does not fail because of one process of which nothing can be read', async () => {
    const hidden = spawn('sleep', ['60'], { stdio: 'ignore' });
    const seen = spawn('sleep', ['60'], { stdio: 'ignore' });
    try {
      // As on a machine whose /proc is mounted with hidepid=1.
      const refused = (path: string, code: string): string | undefined => {
        if (path.startsWith(`/proc/${hidden.pid}/`)) throw Object.assign(new Error(code), { code });
        return jest.requireActual<typeof kernelFile>('./read-kernel-file').readKernelFile(path);
      };
      for (const code of ['EPERM', 'EACCES']) {
        let Fresh = Sweeper;
        jest.isolateModules(() => {
          jest.doMock('./read-kernel-file', () => ({
            ...jest.requireActual<typeof kernelFile>('./read-kernel-file'),
            readKernelFile: (path: string) => refused(path, code),
          }));
          ({ Sweeper: Fresh } = jest.requireActual<typeof sweepModule>('./sweep'));
        });
        const { byPid } = await new Fresh().sweep();
        expect([byPid.has(hidden.pid ?? 0), byPid.has(seen.pid ?? 0)]).toEqual([false, true]);
      }
    } finally {
      jest.dontMock('./read-kernel-file');
      hidden.kill('SIGKILL');
      seen.kill('SIGKILL');
    }
  });

  it('sees neither this process nor kernel threads', async () => {
    const { byPid } = await new Sweeper().sweep();
    expect(byPid.has(process.pid)).toBe(false);
    expect(byPid.has(1)).toBe(false);
  });
});

describe('jobs in turns', () => {
  it('run in order, at once while there is time, and let the event loop breathe', async () => {
    const queue = new TimeSliceQueue();
    const order: number[] = [];
    const spin = () => {
      const until = performance.now() + 2;
      while (performance.now() < until);
    };
    let turns = 0;
    const count = setInterval(() => (turns += 1), 1);
    const jobs = Array.from({ length: 30 }, (_, index) => queue.run(() => (spin(), order.push(index))));
    expect(order.length).toBeLessThan(10);
    await Promise.all(jobs);
    clearInterval(count);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(turns).toBeGreaterThan(2);
  });

  it('pass on the error of a job and go on', async () => {
    const queue = new TimeSliceQueue();
    await expect(
      queue.run(() => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await expect(queue.run(() => 7)).resolves.toBe(7);
  });
});
