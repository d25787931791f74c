import { orThrow, type Libc } from './libc';

const PR_SET_DUMPABLE = 4;
const PR_GET_DUMPABLE = 3;
const PR_SET_CHILD_SUBREAPER = 36;
const PR_GET_CHILD_SUBREAPER = 37;

/**
 * From now on a descendant of this process that loses its parent becomes a child of this process, and not of init. Children do
 * not inherit this. Needs no privilege; Linux 3.4.
 * @throws NativeError
 */
export function becomeSubreaper(libc: Libc): void {
  orThrow(libc, 'prctl(PR_SET_CHILD_SUBREAPER)', libc.prctl(PR_SET_CHILD_SUBREAPER, 1));
}

/** Lets orphans go to init again. @throws NativeError */
export function leaveSubreaper(libc: Libc): void {
  orThrow(libc, 'prctl(PR_SET_CHILD_SUBREAPER)', libc.prctl(PR_SET_CHILD_SUBREAPER, 0));
}

/** @throws NativeError */
export function isSubreaper(libc: Libc): boolean {
  const answer = Buffer.alloc(8);
  const address = Number(libc.addressOf(answer));
  orThrow(libc, 'prctl(PR_GET_CHILD_SUBREAPER)', libc.prctl(PR_GET_CHILD_SUBREAPER, address));
  return answer.readInt32LE() === 1;
}

/**
 * Whether another process of the same user may read this one's memory, environment and descriptors (ptrace, core dumps,
 * /proc/PID/environ, mem and fd). When set to false, this process itself cannot read /proc/self/environ and io either. Children
 * that `exec` are dumpable again.
 * @throws NativeError
 */
export function setDumpable(libc: Libc, dumpable: boolean): void {
  orThrow(libc, 'prctl(PR_SET_DUMPABLE)', libc.prctl(PR_SET_DUMPABLE, dumpable ? 1 : 0));
}

/** @throws NativeError */
export function isDumpable(libc: Libc): boolean {
  return orThrow(libc, 'prctl(PR_GET_DUMPABLE)', libc.prctl(PR_GET_DUMPABLE, 0)) !== 0;
}
