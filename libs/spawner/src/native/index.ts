/**
 * Kernel calls that Node does not offer, through libc: subreaper, pidfd, waitpid for one child, limits, pipes, posix_spawn. Every
 * function takes the libc that `openLibc` found, so a caller without one must have an alternative. Tried on glibc, x64;
 * docs/process-signals.md#with-libc-and-without names the alternatives.
 */
export { openLibc, type Libc, type LibcFound } from './libc';
export { isErrno, NativeError } from './native-error';
export { openPidfd, signalPidfd } from './pidfd';
export { openPipe } from './pipe';
export {
  canSpawn,
  encodeStrings,
  posixSpawn,
  type EncodedPlan,
  type SpawnPlan,
  type SpawnStrings,
} from './posix-spawn';
export { becomeSubreaper, isDumpable, isSubreaper, leaveSubreaper, setDumpable } from './prctl';
export {
  getResourceLimit,
  RLIMIT_LOCKS,
  RLIMIT_NOFILE,
  setResourceLimit,
  type ResourceLimit,
} from './resource-limit';
export { descriptorSocket, receiveDescriptors, sendDescriptors } from './pass-descriptors';
export { peekChild, reapChild, type ChildExit } from './wait-child';
