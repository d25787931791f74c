import type { Libc } from './libc';
import { NativeError } from './native-error';

const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const POSIX_SPAWN_SETSID = 0x80;
/** More than the structures take in any libc: 80, 336 and 128 bytes in glibc and musl. */
const ACTIONS_BYTES = 512;
const ATTRIBUTES_BYTES = 1024;
const SIGNAL_SET_BYTES = 128;
/** One bit per signal, 64 of them. Includes those that glibc uses itself (32, 33), which children would otherwise ignore. */
const SIGNAL_BITS_BYTES = 8;

/** The program to start, with its arguments, environment and descriptors. */
export interface SpawnPlan {
  /** An absolute path; PATH is not searched. */
  readonly file: string;
  /** The first entry is the program's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** The child's descriptors 0, 1, 2 …: each is a descriptor of this process. The child gets no others. */
  readonly fds: readonly number[];
}

/** The same plan with arguments and variables as bytes, so that large ones never become strings. */
export interface EncodedPlan extends Pick<SpawnPlan, 'file' | 'cwd' | 'fds'>, SpawnStrings {}

/** Arguments, then variables, each followed by a zero byte. */
export interface SpawnStrings {
  readonly strings: Buffer;
  /** How many of the strings are arguments. */
  readonly args: number;
}

/** @throws NativeError EINVAL for a string with a zero byte. */
export function encodeStrings({ argv, env }: Pick<SpawnPlan, 'argv' | 'env'>): SpawnStrings {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return { strings: Buffer.concat([...argv, ...variables].map(cString)), args: argv.length };
}

/** Whether this libc's posix_spawn has everything that `posixSpawn` needs. */
export function canSpawn({ spawn }: Libc): boolean {
  return spawn.addChdir !== undefined && spawn.addCloseFrom !== undefined;
}

/**
 * Starts a program as leader of a session and group of its own, with every signal at its default and none blocked (Node ignores
 * SIGPIPE and SIGXFSZ, and children inherit that), and with no descriptors of this process but `fds`. Blocks the event loop
 * until the program was executed. Reports a failure at once and leaves no process behind.
 *
 * The caller must reap the child (`reapChild`): libuv does not know it.
 * @returns its pid.
 * @throws NativeError: ENOENT (also for the directory and for the interpreter of a script), EACCES, ENOEXEC, ENOTDIR, E2BIG,
 *   EAGAIN, ENOMEM, EBADF; EINVAL for a zero byte in any string, which would cut it short.
 */
export function posixSpawn(libc: Libc, plan: SpawnPlan | EncodedPlan): number {
  const { file, cwd, fds } = plan;
  const { spawn } = libc;
  const { addChdir, addCloseFrom } = spawn;
  if (addChdir === undefined || addCloseFrom === undefined) throw new NativeError('posix_spawn', ENOSYS);
  const actions = Buffer.alloc(ACTIONS_BYTES);
  const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
  const program = cString(file);
  const directory = cString(cwd);
  const { strings, args } = 'strings' in plan ? plan : encodeStrings(plan);
  const addresses = addressesOf(libc, strings);
  const pid = Buffer.alloc(4);
  check('posix_spawn_file_actions_init', spawn.actionsInit(actions));
  check('posix_spawnattr_init', spawn.attributesInit(attributes));
  try {
    check('posix_spawn_file_actions_addchdir_np', addChdir(actions, directory));
    for (const [from, to] of moves(fds))
      check('posix_spawn_file_actions_adddup2', spawn.addDup2(actions, from, to));
    check('posix_spawn_file_actions_addclosefrom_np', addCloseFrom(actions, fds.length));
    const flags = POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    check('posix_spawnattr_setflags', spawn.setFlags(attributes, flags));
    check('posix_spawnattr_setsigdefault', spawn.setSignalDefault(attributes, EVERY_SIGNAL));
    check('posix_spawnattr_setsigmask', spawn.setSignalMask(attributes, NO_SIGNAL));
    check(
      'posix_spawn',
      spawn.posixSpawn(
        pid,
        program,
        actions,
        attributes,
        pointersTo(addresses.slice(0, args)),
        pointersTo(addresses.slice(args)),
      ),
    );
    return pid.readInt32LE();
  } finally {
    // Referenced until here, because the kernel reads the memory behind the pointers.
    strings.at(0);
    spawn.actionsDestroy(actions);
    spawn.attributesDestroy(attributes);
  }
}

const ENOSYS = 38;
const EINVAL = 22;
const NO_SIGNAL = Buffer.alloc(SIGNAL_SET_BYTES);
const EVERY_SIGNAL = Buffer.alloc(SIGNAL_SET_BYTES).fill(0xff, 0, SIGNAL_BITS_BYTES);

/**
 * The moves happen one after the other. A move must not overwrite a descriptor that is still to be moved: then all go by way of
 * higher numbers.
 */
function moves(fds: readonly number[]): [from: number, to: number][] {
  if (fds.every((fd) => fd >= fds.length)) return fds.map((fd, to) => [fd, to]);
  const free = Math.max(fds.length, ...fds) + 1;
  return [
    ...fds.map((fd, i): [number, number] => [fd, free + i]),
    ...fds.map((_, to): [number, number] => [free + to, to]),
  ];
}

function cString(text: string): Buffer {
  if (text.includes('\0')) throw new NativeError('posix_spawn', EINVAL);
  return Buffer.from(`${text}\0`);
}

/** The address of each string, valid while `strings` lives. */
function addressesOf(libc: Libc, strings: Buffer): bigint[] {
  const addresses: bigint[] = [];
  const start = strings.length === 0 ? 0n : libc.addressOf(strings);
  for (let at = 0; at < strings.length; at = strings.indexOf(0, at) + 1) addresses.push(start + BigInt(at));
  return addresses;
}

/** A `char *[]`, which ends with NULL. */
function pointersTo(addresses: readonly bigint[]): Buffer {
  const pointers = Buffer.alloc(8 * (addresses.length + 1));
  for (const [i, address] of addresses.entries()) pointers.writeBigUInt64LE(address, 8 * i);
  return pointers;
}

function check(syscall: string, errno: number): void {
  if (errno !== 0) throw new NativeError(syscall, errno);
}
