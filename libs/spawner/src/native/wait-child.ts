import { constants } from 'node:os';
import { orThrow, type Libc } from './libc';
import { isErrno } from './native-error';

const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x01000000;
const P_PID = 1;
const CLD_EXITED = 1;
/** More than the kernel's siginfo_t takes. Its fields are the same on every 64-bit architecture. */
const SIGNAL_INFO_BYTES = 128;
const AT = { code: 8, pid: 16, status: 24 } as const;
/** Children of every kind: otherwise a child that clone(2) made without SIGCHLD is not waited for. */
const __WALL = 0x40000000;

/** How a child ended, in Node's terms. */
export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * Reaps one child, if it has ended. Never blocks. `not-a-child`: the pid is not, or no longer, a child of this process.
 *
 * Only for children that no other code waits for: libuv waits for a child of `node:child_process`, and would never report the
 * exit of one that was reaped here. For the same reason there is no way to wait for any child (`waitpid(-1)`).
 * @throws NativeError
 */
export function reapChild(libc: Libc, pid: number): ChildExit | 'running' | 'not-a-child' {
  if (!Number.isSafeInteger(pid) || pid <= 0) throw new RangeError(`no pid of one child: ${pid}`);
  const status = Buffer.alloc(4);
  try {
    // EINTR is impossible: with WNOHANG the call does not wait.
    const reaped = orThrow(libc, 'waitpid', libc.waitpid(pid, status, WNOHANG | __WALL));
    return reaped === 0 ? 'running' : readStatus(status.readInt32LE());
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return 'not-a-child';
    throw error;
  }
}

/**
 * How one child ended, if it has, without reaping it: until then no other process gets its pid, session or group. Never blocks.
 * @throws NativeError
 */
export function peekChild(libc: Libc, pid: number): ChildExit | 'running' | 'not-a-child' {
  const info = Buffer.alloc(SIGNAL_INFO_BYTES);
  try {
    orThrow(libc, 'waitid', libc.waitid(P_PID, pid, info, WEXITED | WNOHANG | WNOWAIT | __WALL));
  } catch (error) {
    if (isErrno(error, 'ECHILD')) return 'not-a-child';
    throw error;
  }
  if (info.readInt32LE(AT.pid) === 0) return 'running';
  const status = info.readInt32LE(AT.status);
  return info.readInt32LE(AT.code) === CLD_EXITED
    ? { code: status, signal: null }
    : { code: null, signal: nameOf(status) };
}

function readStatus(status: number): ChildExit {
  const signal = status & 0x7f;
  return signal === 0 ? { code: (status >> 8) & 0xff, signal: null } : { code: null, signal: nameOf(signal) };
}

const NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** Node has no name for a real-time signal. */
function nameOf(signal: number): NodeJS.Signals {
  return (NAMES.get(signal) ?? `SIG${signal}`) as NodeJS.Signals;
}
