import { join } from 'node:path';
import { BelayError, type Containment } from '#libs/contracts';
import { Cgroup } from './cgroup';
import { enableControllers } from './cgroup-limits';
import { locateCgroup, tryCgroup } from './cgroup-locate';
import { descentMissing } from './descent';
import { cgroupName } from './host-record';
import { envMissing, namespaceMissing } from './namespace';
import type { ProcessHostOptions } from './process-host.types';

/** The containment that was chosen for a worker. */
export interface ChosenContainment {
  readonly containment: Containment;
  /** The worker's own cgroup; its agents' are below it. */
  readonly cgroup?: Cgroup;
  /** Why `auto` chose nothing better. */
  readonly note?: string;
}

type Asked = Pick<ProcessHostOptions, 'containment' | 'cgroupParent' | 'workerId' | 'native'>;

/**
 * Under `auto` the best containment that works here, else the one asked for. Makes the worker's cgroup and tries it out.
 * @throws BelayError INVALID_SETTINGS when the one asked for does not work, or the cgroup is in use.
 */
export function chooseContainment(asked: Asked): ChosenContainment {
  const reasons: string[] = [];
  if (asked.containment === 'cgroup' || asked.containment === 'auto') {
    const found = openCgroup(asked);
    if ('cgroup' in found) return { containment: 'cgroup', cgroup: found.cgroup };
    if (asked.containment === 'cgroup')
      throw cannotBeHad('cgroup', found.reason, 'Delegate a cgroup v2 directory to the worker');
    reasons.push(`no cgroup: ${found.reason}`);
  }
  // Never by `auto`: a command sees other pids there, and its mounts are its own.
  if (asked.containment === 'namespace') {
    const missing = namespaceMissing() ?? envMissing();
    if (missing === undefined) return { containment: 'namespace' };
    throw cannotBeHad('namespace', missing, 'Meet the requirements of docs/isolation.md');
  }
  if (asked.containment === 'descent' || asked.containment === 'auto') {
    const missing = descentMissing(asked.native);
    if (missing === undefined) return { containment: 'descent', ...noteOf(reasons) };
    if (asked.containment === 'descent')
      throw cannotBeHad('descent', missing, 'Install koffi (npm ci --include=optional)');
    reasons.push(`no descent: ${missing}`);
  }
  return { containment: 'marks', ...noteOf(reasons) };
}

function noteOf(reasons: readonly string[]): { note?: string } {
  return reasons.length === 0 ? {} : { note: reasons.join('; ') };
}

/** @param advice the beginning of a sentence that ends with the alternative. */
export function cannotBeHad(
  containment: Containment,
  reason: string,
  advice: string,
  cause?: unknown,
): BelayError {
  return new BelayError(
    'INVALID_SETTINGS',
    `Containment "${containment}" is not available: ${reason}. ${advice}, or set BELAY_CONTAINMENT=auto.`,
    { details: { reason }, cause },
  );
}

function openCgroup({ cgroupParent, workerId }: Asked): { cgroup: Cgroup } | { reason: string } {
  const place = locateCgroup(cgroupParent);
  if ('reason' in place) return place;
  const cgroup = new Cgroup(join(place.parent.path, cgroupName(workerId)));
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
  const tried = tryCgroup(cgroup);
  if ('reason' in tried) cgroup.remove();
  else enableControllers(place.parent, cgroup);
  return tried;
}
