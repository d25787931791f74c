import { constants } from 'node:os';
import { orThrow, type Libc } from './libc';
import { isErrno } from './native-error';

const SYS_PIDFD_SEND_SIGNAL = 424;
const SYS_PIDFD_OPEN = 434;

/**
 * A descriptor for the process that has `pid` now. The descriptor names that process for good, even if another process gets the
 * number later. The caller closes it (`closeSync`). Undefined when there is no such process. Linux 5.3.
 * @throws NativeError: EMFILE, ENFILE, ENOSYS.
 */
export function openPidfd(libc: Libc, pid: number): number | undefined {
  try {
    return orThrow(libc, 'pidfd_open', libc.syscall(SYS_PIDFD_OPEN, pid, 0, null, 0));
  } catch (error) {
    // The number now names a thread (EINVAL, since Linux 6.15 ENOENT), so the process that had it is gone.
    if (isErrno(error, 'ESRCH', 'EINVAL', 'ENOENT')) return undefined;
    throw error;
  }
}

/**
 * Signals the process for which the descriptor was opened, and no other. Linux 5.1.
 * @returns false when it has ended and was reaped, or this process may not signal it (EPERM, a setuid program).
 * @throws NativeError
 */
export function signalPidfd(libc: Libc, pidfd: number, signal: NodeJS.Signals): boolean {
  const number = constants.signals[signal];
  try {
    orThrow(libc, 'pidfd_send_signal', libc.syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, number, null, 0));
    return true;
  } catch (error) {
    if (isErrno(error, 'ESRCH', 'EPERM')) return false;
    throw error;
  }
}
