import { constants } from 'node:os';
import { orThrow, type Libc } from './libc';
import { isErrno } from './native-error';

const WNOHANG = 1;
/** Children of every kind: one made by clone(2) without SIGCHLD is not waited for otherwise. */
const __WALL = 0x40000000;

/** How a child ended, as Node tells it. */
export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * Reaps one child, if it has ended. Never blocks. `not-a-child`: it is not (any more) ours to wait for.
 *
 * Only for children that nobody else waits for: a child of `node:child_process` is libuv's, and one that was reaped here
 * would never tell its exit. That is why there is no way to wait for any child (`waitpid(-1)`).
 * @throws NativeError
 */
export function reapChild(libc: Libc, pid: number): ChildExit | 'running' | 'not-a-child' {
  if (!Number.isSafeInteger(pid) || pid <= 0) throw new RangeError(`no pid of one child: ${pid}`);
  const status = Buffer.alloc(4);
  try {
    // EINTR cannot come: with WNOHANG the call does not wait.
    const reaped = orThrow(libc, 'waitpid', libc.waitpid(pid, status, WNOHANG | __WALL));
    return reaped === 0 ? 'running' : readStatus(status.readInt32LE());
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return 'not-a-child';
    throw error;
  }
}

function readStatus(status: number): ChildExit {
  const signal = status & 0x7f;
  return signal === 0 ? { code: (status >> 8) & 0xff, signal: null } : { code: null, signal: nameOf(signal) };
}

const NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** A real-time signal has no name in Node. */
function nameOf(signal: number): NodeJS.Signals {
  return (NAMES.get(signal) ?? `SIG${signal}`) as NodeJS.Signals;
}
