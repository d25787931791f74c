import { closeSync } from 'node:fs';
import { openPidfd, signalPidfd, type Libc } from '../native';
import { findAlive, readStat, type PidStart } from './proc-stat';

/** Descriptors open at a time while many processes are signalled. */
const BATCH = 64;

/**
 * Signals one process if it is still the same one and alive. With `libc` it opens a descriptor of the process before the look.
 * `target` was known before, so the process that has the number at both moments is one and the same, and the signal goes to it.
 * Without `libc`, microseconds pass between look and signal; a pid is reused only after the kernel gave out all others.
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
 * Signals the processes that `list` names, which is read anew: each is on the list while its descriptor is open, or, without
 * `libc`, was on it a moment ago.
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
 * Signals the group that `leader` leads, if the leader still has that number: alive or not yet reaped. Only Node's event loop
 * reaps it, and this runs on that loop, so the number cannot be reused in between.
 */
export function signalGroup(leader: PidStart, signal: NodeJS.Signals): boolean {
  if (readStat(leader.pid)?.startTime !== leader.startTime) return false;
  return send(-leader.pid, signal);
}

/**
 * kill(2) without any check: for callers that know at this very moment which process has the number.
 * @returns false when there is no such process (ESRCH) or this process may not signal it (EPERM, a setuid program).
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

/** The process that has `pid` now, by a descriptor if possible. */
function hold(pid: number, libc: Libc | undefined): Held {
  const byNumber = { send: (signal: NodeJS.Signals) => send(pid, signal), release: () => undefined };
  if (libc === undefined) return byNumber;
  try {
    const pidfd = openPidfd(libc, pid);
    if (pidfd === undefined) return { send: () => false, release: () => undefined };
    return { send: (signal) => signalPidfd(libc, pidfd, signal), release: () => closeSync(pidfd) };
  } catch {
    // Out of descriptors, or a kernel or a filter without the call: a less certain signal is better than none.
    return byNumber;
  }
}
