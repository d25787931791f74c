import { orThrow, type Libc } from './libc';

/** RLIMIT_LOCKS: not enforced since Linux 2.4.25. */
export const RLIMIT_LOCKS = 10;
/** RLIMIT_NOFILE: the number of descriptors. */
export const RLIMIT_NOFILE = 7;

export interface ResourceLimit {
  readonly soft: bigint;
  readonly hard: bigint;
}

/** A resource limit of one process; 0 is this one. @throws NativeError: ESRCH, EPERM. */
export function getResourceLimit(libc: Libc, pid: number, resource: number): ResourceLimit {
  const was = Buffer.alloc(16);
  orThrow(libc, 'prlimit', libc.prlimit(pid, resource, null, was));
  return { soft: was.readBigUInt64LE(0), hard: was.readBigUInt64LE(8) };
}

/**
 * Sets a limit of one process (0: this one, all its threads, and all its later children) and returns the former limit. Without
 * privileges the hard limit can only be lowered, for good.
 * @throws NativeError: ESRCH, EPERM, EINVAL when soft is above hard.
 */
export function setResourceLimit(
  libc: Libc,
  pid: number,
  resource: number,
  { soft, hard }: ResourceLimit,
): ResourceLimit {
  const next = Buffer.alloc(16);
  next.writeBigUInt64LE(soft, 0);
  next.writeBigUInt64LE(hard, 8);
  const was = Buffer.alloc(16);
  orThrow(libc, 'prlimit', libc.prlimit(pid, resource, next, was));
  return { soft: was.readBigUInt64LE(0), hard: was.readBigUInt64LE(8) };
}
