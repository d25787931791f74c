import { spawn } from 'node:child_process';
import type { ProcStat } from './proc-stat';
import { asUser } from './set-user';
import type { UidSweeper } from './uid-sweep';

/** A process whose only task is to send one signal has this long. */
const KILLER_WAIT_MS = 2_000;

/** The processes of a user that were seen. */
export interface UserLook {
  readonly found: readonly ProcStat[];
  /** There are none. */
  readonly isEmpty: boolean;
  /** All processes of that user were sent SIGKILL. */
  readonly isKilled?: true;
}

/**
 * Looks for processes of a user. While others come and go faster than they can be read, a pass may have missed one, and says
 * so. Then all processes of that user are sent SIGKILL at once. After that none of them forks, so a process that lives after
 * the next pass was there all through it.
 */
export async function lookForUser(uid: number, sweeper: UidSweeper): Promise<UserLook> {
  const sweep = await sweeper.sweep();
  const found = sweep.of(uid);
  if (sweep.sound || found.length > 0) return { found, isEmpty: found.length === 0 };
  if (!(await killAllOf(uid))) return { found, isEmpty: false };
  const left = (await sweeper.sweep()).of(uid);
  return { found: left, isEmpty: left.length === 0, isKilled: true };
}

/**
 * SIGKILL to every process that the user may signal, which are its own: the kernel signals all of them while none can fork. A
 * process of that user sends it, and first checks its own user: if root sent it, it would reach everybody.
 * @returns whether it was sent. False when one of those processes killed the sender first.
 */
export function killAllOf(uid: number): Promise<boolean> {
  const [file = '', ...args] = asUser(uid);
  // The sender forks nothing: beside agents that fork as fast as they can, each fork would wait its turn. kill(1) fails when
  // there is no process, which is just as good.
  const line =
    'while read -r key real effective rest; do if [ "$key" = Uid: ]; then break; fi; done </proc/self/status; ' +
    `[ "$real $effective" = "${uid} ${uid}" ] || exit 1; kill -s KILL -- -1; exit 0`;
  return new Promise((resolve) => {
    const killer = spawn(file, [...args, '/bin/sh', '-c', line], {
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdio: 'ignore',
    });
    const timer = setTimeout(() => killer.kill('SIGKILL'), KILLER_WAIT_MS);
    const settle = (isSent: boolean): void => {
      clearTimeout(timer);
      resolve(isSent);
    };
    killer.once('error', () => settle(false));
    killer.once('exit', (code) => settle(code === 0));
  });
}
