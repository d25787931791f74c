import { readFileSync, readlinkSync } from 'node:fs';
import { BelayError } from '#libs/contracts';
import { bootId } from './proc-stat';

/**
 * The place in which pids and start times of a process have their meaning. Containers, and on a network volume machines, may
 * share a data directory: a pid of one PID namespace names another process, or none, in the next.
 */
export interface HostPlace {
  /** /etc/machine-id; empty where there is none. */
  readonly machineId: string;
  /** Random for each boot of each kernel. */
  readonly bootId: string;
  /** `pid:[inode]`. Another namespace gets the number only when no process of the former one is left. */
  readonly pidNamespace: string;
  /** `time:[inode]`: start times of two of these cannot be compared. Empty before Linux 5.6. */
  readonly timeNamespace: string;
  /** `cgroup:[inode]`: a path below /sys/fs/cgroup names different groups in two of these. */
  readonly cgroupNamespace: string;
}

/** The machine's own PID namespace has this number in every kernel. */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

let known: HostPlace | undefined;

/** The place of this process; read once. */
export function hostPlace(): HostPlace {
  known ??= {
    machineId: readText('/etc/machine-id') || readText('/var/lib/dbus/machine-id'),
    bootId: bootId(),
    pidNamespace: namespace('pid'),
    timeNamespace: namespace('time'),
    cgroupNamespace: namespace('cgroup'),
  };
  return known;
}

/**
 * Whether this process sees the same processes as one at `there`. Only then does "not in /proc" mean "dead".
 * @param cgroups whether the paths of cgroups must mean the same, too.
 */
export function isSeenFromHere(
  there: HostPlace,
  { cgroups }: { readonly cgroups: boolean },
  here = hostPlace(),
): boolean {
  return (
    there.bootId === here.bootId &&
    there.pidNamespace === here.pidNamespace &&
    there.timeNamespace === here.timeNamespace &&
    (!cgroups || there.cgroupNamespace === here.cgroupNamespace)
  );
}

/**
 * Whether `there` was an earlier boot of this very machine. Inside a container that is unknown: its machine id may come from
 * its image, on any number of machines.
 */
export function isEarlierBoot(there: HostPlace, here = hostPlace()): boolean {
  return (
    there.bootId !== here.bootId &&
    here.machineId !== '' &&
    there.machineId === here.machineId &&
    [here, there].every(({ pidNamespace }) => pidNamespace === FIRST_PID_NAMESPACE)
  );
}

/**
 * A /proc of another PID namespace shows strangers under our children's pids, and signals would reach the wrong processes.
 * @throws BelayError INVALID_SETTINGS
 */
export function requireOwnProc(): void {
  const shown = readLink('/proc/self');
  if (shown === String(process.pid)) return;
  throw new BelayError(
    'INVALID_SETTINGS',
    `/proc shows another PID namespace: this process is ${process.pid} to itself and ${shown || 'unknown'} in /proc. Mount /proc anew in the namespace of the worker (unshare --mount-proc).`,
    { details: { pid: process.pid, shown } },
  );
}

const namespace = (name: 'pid' | 'time' | 'cgroup'): string => readLink(`/proc/self/ns/${name}`);

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return '';
  }
}
