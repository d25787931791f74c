import { spawn } from 'node:child_process';
import type { ProcStat } from './proc-stat';
import { asUser } from './set-user';
import type { UidSweeper } from './uid-sweep';

/** A process that has nothing to do but to send one signal. */
const KILLER_WAIT_MS = 2_000;

/** The processes of a user, as far as they were seen. */
export interface UserLook {
  readonly found: readonly ProcStat[];
  /** There are none. */
  readonly isEmpty: boolean;
  /** All of that user's were sent SIGKILL. */
  readonly isKilled?: true;
}

/**
 * Looks for processes of a user. While others come and go faster than they can be read, a pass may have missed one, and says
 * so. Then all of that user's are sent SIGKILL at once: after that none of them forks, so who lives after the next pass was
 * there all through it.
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
 * SIGKILL to every process that the user may signal, which are its own: the kernel goes over all of them while none can
 * fork. Sent by a process of that user, which looks who it is first: sent by root it would reach everybody.
 * @returns whether it was sent. False when it was killed itself first, by one of those.
 */
export function killAllOf(uid: number): Promise<boolean> {
  const [file = '', ...args] = asUser(uid);
  // It forks nothing: beside agents that fork as fast as they can each fork would wait its turn. kill(1) fails when there is
  // nobody: that is as good.
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
