import type * as Koffi from 'koffi';
import { NativeError } from './native-error';

/**
 * The libc functions that Node does not offer, called through koffi. koffi is an optional dependency. Where it cannot be loaded
 * (no binary for the platform, installed without optional packages) `openLibc` says why, and callers use their alternative.
 * Only 64-bit Linux, where a `long` and a pointer have eight bytes.
 */
export interface Libc {
  /** `glibc 2.36`, or `musl` for any libc that does not tell its version. */
  readonly name: string;
  prctl(option: number, argument: number): number;
  /** The call's result, or -1 and an errno. Numbers above 423 are the same on every architecture. */
  syscall(number: number, first: number, second: number, third: Buffer | null, fourth: number): number;
  waitpid(pid: number, status: Buffer, options: number): number;
  waitid(idType: number, id: number, info: Buffer, options: number): number;
  prlimit(pid: number, resource: number, next: Buffer | null, previous: Buffer | null): number;
  pipe2(pair: Buffer, flags: number): number;
  socketpair(domain: number, type: number, protocol: number, pair: Buffer): number;
  sendmsg(socket: number, message: Buffer, flags: number): number;
  recvmsg(socket: number, message: Buffer, flags: number): number;
  readonly spawn: SpawnCalls;
  /** errno of the last call. Must be read directly after it. */
  errno(): number;
  /** The address of a buffer's bytes. The buffer must be kept as long as the address is used. */
  addressOf(buffer: Buffer): bigint;
}

/** posix_spawn and the calls that fill its two structures. Each returns an errno, 0 for success. */
export interface SpawnCalls {
  posixSpawn(
    pid: Buffer,
    path: Buffer,
    actions: Buffer,
    attributes: Buffer,
    argv: Buffer,
    envp: Buffer,
  ): number;
  actionsInit(actions: Buffer): number;
  actionsDestroy(actions: Buffer): number;
  addDup2(actions: Buffer, from: number, to: number): number;
  /** Since glibc 2.29, musl 1.1.24. */
  readonly addChdir: ((actions: Buffer, path: Buffer) => number) | undefined;
  /** Since glibc 2.34; musl has none. */
  readonly addCloseFrom: ((actions: Buffer, from: number) => number) | undefined;
  attributesInit(attributes: Buffer): number;
  attributesDestroy(attributes: Buffer): number;
  setFlags(attributes: Buffer, flags: number): number;
  setSignalDefault(attributes: Buffer, set: Buffer): number;
  setSignalMask(attributes: Buffer, set: Buffer): number;
}

/** The libc of this process, or a sentence why its functions cannot be called. */
export type LibcFound = { readonly libc: Libc } | { readonly reason: string };

let found: LibcFound | undefined;

/** Loads koffi at the first call only, in about 15 ms. Never throws. */
export function openLibc(): LibcFound {
  found ??= open();
  return found;
}

function open(): LibcFound {
  if (process.platform !== 'linux') return { reason: `libc is not called on ${process.platform}` };
  if (!['x64', 'arm64'].includes(process.arch))
    return { reason: `libc is called on x64 and arm64 only, not on ${process.arch}` };
  try {
    // Not an import: koffi may be absent, and a process that never needs it must not load it.
    return { libc: bind(require('koffi') as typeof Koffi) };
  } catch (error) {
    return { reason: `koffi cannot be loaded (${firstLine(error)})` };
  }
}

function bind(koffi: typeof Koffi): Libc {
  const lib = koffi.load(null);
  const call = <T>(name: string, result: string, parameters: readonly string[]): T =>
    lib.func(name, result, [...parameters]) as unknown as T;
  const callIfThere = <T>(name: string, result: string, parameters: readonly string[]): T | undefined => {
    try {
      return call<T>(name, result, parameters);
    } catch {
      return undefined;
    }
  };
  const version = callIfThere<() => string>('gnu_get_libc_version', 'str', [])?.();
  const prctl = call<(...all: number[]) => number>('prctl', 'int', ['int', 'long', 'long', 'long', 'long']);
  return {
    name: version === undefined ? 'musl' : `glibc ${version}`,
    prctl: (option, argument) => prctl(option, argument, 0, 0, 0),
    syscall: call('syscall', 'long', ['long', 'long', 'long', 'void *', 'long']),
    waitpid: call('waitpid', 'int', ['int', 'void *', 'int']),
    waitid: call('waitid', 'int', ['int', 'int', 'void *', 'int']),
    prlimit: call('prlimit', 'int', ['int', 'int', 'void *', 'void *']),
    pipe2: call('pipe2', 'int', ['void *', 'int']),
    socketpair: call('socketpair', 'int', ['int', 'int', 'int', 'void *']),
    sendmsg: call('sendmsg', 'long', ['int', 'void *', 'int']),
    recvmsg: call('recvmsg', 'long', ['int', 'void *', 'int']),
    spawn: {
      posixSpawn: call('posix_spawn', 'int', ['void *', 'void *', 'void *', 'void *', 'void *', 'void *']),
      actionsInit: call('posix_spawn_file_actions_init', 'int', ['void *']),
      actionsDestroy: call('posix_spawn_file_actions_destroy', 'int', ['void *']),
      addDup2: call('posix_spawn_file_actions_adddup2', 'int', ['void *', 'int', 'int']),
      addChdir: callIfThere('posix_spawn_file_actions_addchdir_np', 'int', ['void *', 'void *']),
      addCloseFrom: callIfThere('posix_spawn_file_actions_addclosefrom_np', 'int', ['void *', 'int']),
      attributesInit: call('posix_spawnattr_init', 'int', ['void *']),
      attributesDestroy: call('posix_spawnattr_destroy', 'int', ['void *']),
      setFlags: call('posix_spawnattr_setflags', 'int', ['void *', 'int']),
      setSignalDefault: call('posix_spawnattr_setsigdefault', 'int', ['void *', 'void *']),
      setSignalMask: call('posix_spawnattr_setsigmask', 'int', ['void *', 'void *']),
    },
    errno: () => koffi.errno(),
    addressOf: (buffer) => koffi.address(buffer),
  };
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
}

/** The result of a call that returns -1 for a failure. @throws NativeError */
export function orThrow(libc: Libc, syscall: string, result: number): number {
  if (result !== -1) return result;
  throw new NativeError(syscall, libc.errno());
}
