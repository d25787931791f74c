import { closeSync } from 'node:fs';
import { openPidfd, signalPidfd, type Libc } from '../native';
import { findAlive, readStat, type PidStart } from './proc-stat';

/** Descriptors held at a time while many are signalled. */
const BATCH = 64;

/**
 * Signals one process if it is still the same one and alive. With `libc` a descriptor of the process is opened before
 * the look: who has the number at both moments is one process, since `target` was known before, and the signal
 * goes to that one. Without it microseconds pass between look and signal; a pid comes round again only after the
 * kernel handed out all others.
 * @returns whether the signal was sent.
 */
export function signalProcess(target: PidStart, signal: NodeJS.Signals, libc: Libc | undefined): boolean {
  const held = hold(target.pid, libc);
  try {
    return findAlive(target) !== undefined && held.send(signal);
  } finally {
    held.release();
  }
}

/**
 * Signals whoever `list` names, which is read anew: each is on the list while its descriptor is held, or, without `libc`,
 * was a moment ago.
 * @param onSent called with each pid and signal that was sent.
 */
export function signalListed(
  list: () => readonly number[],
  signals: readonly NodeJS.Signals[],
  libc: Libc | undefined,
  onSent: (pid: number, signal: NodeJS.Signals) => void,
): void {
  const pids = list();
  for (let from = 0; from < pids.length; from += BATCH) {
    const batch = pids.slice(from, from + BATCH).map((pid) => ({ pid, held: hold(pid, libc) }));
    try {
      const still = libc === undefined ? undefined : new Set(list());
      for (const { pid, held } of batch)
        if (still?.has(pid) ?? true) for (const signal of signals) if (held.send(signal)) onSent(pid, signal);
    } finally {
      for (const { held } of batch) held.release();
    }
  }
}

/**
 * Signals the group that `leader` leads, if the leader still holds that number: alive or not yet reaped. Only Node's
 * event loop reaps it, and this runs on it, so the number cannot change hands in between.
 */
export function signalGroup(leader: PidStart, signal: NodeJS.Signals): boolean {
  if (readStat(leader.pid)?.startTime !== leader.startTime) return false;
  return send(-leader.pid, signal);
}

/**
 * kill(2) without any check: for callers that know at this very moment who holds the number.
 * @returns false when there is nobody (ESRCH) or it is not ours to signal (EPERM, a setuid program).
 */
export function send(target: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(target, signal);
    return true;
  } catch {
    return false;
  }
}

interface Held {
  send(signal: NodeJS.Signals): boolean;
  release(): void;
}

/** The process that has `pid` now, by a descriptor where one can be had. */
function hold(pid: number, libc: Libc | undefined): Held {
  const byNumber = { send: (signal: NodeJS.Signals) => send(pid, signal), release: () => undefined };
  if (libc === undefined) return byNumber;
  try {
    const pidfd = openPidfd(libc, pid);
    if (pidfd === undefined) return { send: () => false, release: () => undefined };
    return { send: (signal) => signalPidfd(libc, pidfd, signal), release: () => closeSync(pidfd) };
  } catch {
    // Out of descriptors, or a kernel or a filter without the call: a signal that is less sure is better than none.
    return byNumber;
  }
}
