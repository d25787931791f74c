import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { SET_MARK } from './limit-mark';
import { childrenOf } from './descendants';
import { findAlive, readStat, type PidStart } from './proc-stat';
import { readKernelFile } from './read-kernel-file';
import { asUnprivileged, findSetpriv } from './set-user';

/**
 * A PID namespace for each agent, by util-linux (ADR 0029). The first process stays outside, and has two children in the
 * namespace. The first of them is its init: it sleeps, and the kernel reaps orphans for it because it ignores SIGCHLD. The second
 * becomes the command. So the command is not process 1, which would ignore most signals, and the kernel tells its end to its
 * parent, timeout(1) without a time-out, which ends by the same exit code or signal. SIGKILL to init ends every process of the
 * namespace.
 */
const UNSHARE = '/usr/bin/unshare';
const SETSID = '/usr/bin/setsid';
/** unshare --fork would do, but it reports a command that SIGKILL ended as exit code 1 (util-linux 2.38). */
const TIMEOUT = '/usr/bin/timeout';
const ENV = '/usr/bin/env';
const SLEEP = '/bin/sleep';
const FOREVER_S = 2_147_483_647;

/**
 * Runs outside of the namespace. It reports init with pid and start time on fd 3, before anything of a spec runs, and then becomes
 * the parent of the command.
 */
const BEGIN_NAMESPACE = `
${SET_MARK}
${ENV} --ignore-signal=CHLD ${SLEEP} ${FOREVER_S} </dev/null >/dev/null 2>&1 3>&- &
belay_init() { read -r BELAY_STAT <"/proc/$1/stat"; set -- "$1" \${BELAY_STAT##*) }; echo "$BELAY_COOKIE init $1 \${21}" >&3; }
belay_init $!
exec "$@"
`;

const isRoot = (): boolean => process.geteuid?.() === 0;

/**
 * Why no PID namespace can be made here, as far as known before the first is; undefined when nothing is missing.
 * @param places the programs that are needed.
 */
export function namespaceMissing(
  places: readonly string[] = [UNSHARE, SETSID, TIMEOUT, ENV, SLEEP],
): string | undefined {
  const absent = places.find((path) => !isExecutable(path));
  if (absent !== undefined) return `${absent} is not there: install util-linux and coreutils`;
  if (!isRoot() && findSetpriv() === undefined) return 'setpriv(1) is not there: install util-linux';
  return undefined;
}

/** Why init cannot be made to ignore a signal; undefined when it can. Starts a process that ends at once. */
export function envMissing(): string | undefined {
  const ignores = spawnSync(ENV, ['--ignore-signal=CHLD', SLEEP, '0'], { stdio: 'ignore', timeout: 5_000 });
  return ignores.status === 0
    ? undefined
    : `${ENV} cannot ignore a signal: coreutils 8.31 or later is needed`;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * The words in front of a program that is to run in a namespace of its own, with its own /proc.
 * @param marks the two values for `SET_MARK`.
 * @param root whether the worker is root. Otherwise a user namespace gives the rights for the rest, and the program gets none of
 *   them.
 */
export function inNamespace(marks: readonly [string, string], root = isRoot()): string[] {
  const user = root ? [] : ['--user', '--map-current-user', '--keep-caps'];
  const outside = [
    UNSHARE,
    ...user,
    '--pid',
    '--',
    '/bin/sh',
    '-c',
    BEGIN_NAMESPACE,
    'belay-start',
    ...marks,
  ];
  const parent = [TIMEOUT, '--foreground', '0'];
  // A session of its own: otherwise signals to "my group" (kill 0) would reach the process outside. Mounts that are made outside
  // later are seen inside; its own are not seen outside.
  const inside = [SETSID, UNSHARE, '--mount-proc', '--propagation', 'slave', '--'];
  return [...outside, ...parent, ...inside, ...(root ? [] : asUnprivileged())];
}

/** Init as the shell reports it; undefined for every other line. */
export function readInit(line: string, cookie: string): PidStart | undefined {
  if (cookie === '' || !line.startsWith(`${cookie} init `)) return undefined;
  const [, pid, startTime] = /^(\d+) (\d+)$/.exec(line.slice(cookie.length + ' init '.length)) ?? [];
  return pid === undefined || startTime === undefined ? undefined : { pid: Number(pid), startTime };
}

/** Init, as the child of the living first process that is process 1 in a namespace. Undefined also where the kernel lists no children. */
export function findInit(first: PidStart): PidStart | undefined {
  const alive = findAlive(first);
  if (alive === undefined) return undefined;
  for (const pid of childrenOf(alive)) {
    const stat = readStat(pid);
    if (stat?.parent !== first.pid) continue;
    if (/^NSpid:.*\t1$/m.test(readKernelFile(`/proc/${pid}/status`) ?? ''))
      return { pid, startTime: stat.startTime };
  }
  return undefined;
}
