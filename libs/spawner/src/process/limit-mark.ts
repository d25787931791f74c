import { createHash } from 'node:crypto';
import { isForbidden, readKernelFile } from './read-kernel-file';

/**
 * A mark that survives a cleared environment, a session of its own and the parent's death: RLIMIT_LOCKS (ADR 0012). Linux has
 * not enforced that limit since 2.4.25, every child inherits it, `exec` keeps it, also into a setuid program, and anyone may
 * read it in /proc/PID/limits. The soft limit carries the agent's mark, the hard one the worker's.
 */
const BITS = 60n;
/** The hard limit must be the larger one. */
const SOFT_BASE = 1n << BITS;
const HARD_BASE = 1n << (BITS + 1n);
const MASK = SOFT_BASE - 1n;

/** The mark by which a sweep finds the processes of `cookie`. It is derived, because limits are no secret. */
export function markOf(cookie: string): string {
  return `mark ${numberOf(cookie)}`;
}

/**
 * A shell runs this first, with the values of `limitsFor` as `$1` and `$2`: the first sets both limits, the second the soft
 * one. dash and busybox call it -w, bash -x. Where it is refused (a lower limit is set already) there is no mark.
 */
export const SET_MARK =
  '{ ulimit -w "$1" && ulimit -S -w "$2" || { ulimit -x "$1" && ulimit -S -x "$2"; }; } 2>/dev/null; shift 2';

/** The values for `ulimit`: hard, then soft. */
export function limitsFor(workerCookie: string, agentCookie: string): [hard: string, soft: string] {
  return [String(HARD_BASE + numberOf(workerCookie)), String(SOFT_BASE + numberOf(agentCookie))];
}

/** The mark of its agent or of its worker that a process bears; empty when it has none or hides it (hidepid). */
export function readMark(pid: number, whose: 'agent' | 'worker'): string[] {
  const limits = /^Max file locks +(\d+|unlimited) +(\d+|unlimited)/m.exec(readLimits(pid));
  const value = limits?.[whose === 'worker' ? 2 : 1];
  if (value === undefined || value === 'unlimited') return [];
  const base = whose === 'worker' ? HARD_BASE : SOFT_BASE;
  const limit = BigInt(value);
  return limit >= base && limit - base <= MASK ? [`mark ${limit - base}`] : [];
}

function readLimits(pid: number): string {
  try {
    return readKernelFile(`/proc/${pid}/limits`) ?? '';
  } catch (error) {
    if (isForbidden(error)) return '';
    throw error;
  }
}

function numberOf(cookie: string): bigint {
  return BigInt(`0x${createHash('sha256').update(cookie).digest('hex').slice(0, 16)}`) & MASK;
}
