import { join } from 'node:path';
import { BelayError } from '#libs/contracts';
import { Cgroup } from './cgroup';
import { enableControllers } from './cgroup-limits';
import { locateCgroup, tryCgroup } from './cgroup-locate';
import type { Containment, ProcessHostOptions } from './process-host.types';

/** The containment a worker ended up with. */
export interface ChosenContainment {
  readonly containment: Containment;
  /** The worker's own cgroup; its agents' are below. */
  readonly cgroup?: Cgroup;
  /** Why it is not `cgroup`, where that was not asked for. */
  readonly note?: string;
}

type Asked = Pick<ProcessHostOptions, 'containment' | 'cgroupParent' | 'workerId'>;

/**
 * Makes the worker's cgroup and tries it out, or falls back to process groups under `auto`.
 * @throws BelayError INVALID_SETTINGS when `cgroup` was asked for and cannot be had, or the cgroup is in use.
 */
export function chooseContainment(asked: Asked): ChosenContainment {
  if (asked.containment === 'group') return { containment: 'group' };
  const found = openCgroup(asked);
  if ('cgroup' in found) return { containment: 'cgroup', cgroup: found.cgroup };
  if (asked.containment === 'auto') return { containment: 'group', note: found.reason };
  throw new BelayError(
    'INVALID_SETTINGS',
    `Containment "cgroup" cannot be had: ${found.reason}. Delegate a cgroup v2 directory to the worker, or set BELAY_CONTAINMENT=auto.`,
    { details: { reason: found.reason } },
  );
}

function openCgroup({ cgroupParent, workerId }: Asked): { cgroup: Cgroup } | { reason: string } {
  const place = locateCgroup(cgroupParent);
  if ('reason' in place) return place;
  const cgroup = new Cgroup(join(place.parent.path, `belay-${workerId}`));
  try {
    if (!cgroup.create() && cgroup.populated())
      throw new BelayError(
        'INVALID_SETTINGS',
        `The cgroup ${cgroup.path} has running processes: another worker ${workerId} is at work, or its data directory was lost. Use another worker id, or end them with cgroup.kill.`,
        { details: { cgroup: cgroup.path, pids: cgroup.pids().slice(0, 20) } },
      );
  } catch (error) {
    if (error instanceof BelayError) throw error;
    return { reason: `${cgroup.path} could not be made (${(error as NodeJS.ErrnoException).code})` };
  }
  const problem = tryCgroup(cgroup);
  if (problem !== undefined) {
    cgroup.remove();
    return { reason: problem };
  }
  enableControllers(place.parent, cgroup);
  return { cgroup };
}
