import { readFileSync, readlinkSync } from 'node:fs';
import { BelayError } from '#libs/contracts';
import { bootId } from './proc-stat';

/**
 * Where a process runs, as far as its pids and start times depend on it. A data directory may be shared by containers
 * and, on a network volume, by machines: a pid of one PID namespace names another process, or none, in the next.
 */
export interface HostPlace {
  /** /etc/machine-id; empty where there is none. */
  readonly machineId: string;
  /** Random for each boot of each kernel. */
  readonly bootId: string;
  /** `pid:[inode]`. Given to another namespace only when no process of the former one is left. */
  readonly pidNamespace: string;
  /** `time:[inode]`: start times of two of these cannot be compared. Empty before Linux 5.6. */
  readonly timeNamespace: string;
  /** `cgroup:[inode]`: a path below /sys/fs/cgroup names different groups in two of these. */
  readonly cgroupNamespace: string;
}

/** The PID namespace of the machine itself has this number in every kernel. */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

let known: HostPlace | undefined;

/** Of this process; read once. */
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
 * Whether this process sees what a process at `there` sees. Only then does "not in /proc" mean "dead".
 * @param cgroups also the paths of cgroups mean the same.
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
 * Whether `there` was an earlier boot of this very machine. Inside a container that cannot be told: its machine id may
 * be that of its image, on any number of machines.
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
 * A /proc of another PID namespace shows strangers under our children's pids; signals would reach the wrong processes.
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
