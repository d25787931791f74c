import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeLimits } from '#libs/contracts';
import type { Cgroup } from './cgroup';
import type { UnappliedLimit } from './process-host.types';

const CPU_PERIOD_US = 100_000;

/** The controller and file of each limit, and the format of its value. */
const FILES = {
  memoryMb: { controller: 'memory', file: 'memory.max', text: (mb: number) => String(mb * 1024 * 1024) },
  pids: { controller: 'pids', file: 'pids.max', text: (count: number) => String(Math.ceil(count)) },
  cpus: {
    controller: 'cpu',
    file: 'cpu.max',
    text: (cpus: number) => `${Math.max(1_000, Math.round(cpus * CPU_PERIOD_US))} ${CPU_PERIOD_US}`,
  },
} as const satisfies Record<
  keyof NodeLimits,
  { controller: string; file: string; text: (value: number) => string }
>;

/**
 * Enables the controllers that limits need for `group`'s children, as far as the machine allows. Each is enabled by itself,
 * because one unknown name would refuse them all. Never throws; a missing controller shows when a limit is applied.
 */
export function enableControllers(parent: Cgroup, group: Cgroup): void {
  for (const { controller } of Object.values(FILES))
    for (const { path } of [parent, group]) {
      try {
        const file = join(path, 'cgroup.subtree_control');
        if (readFileSync(file, 'latin1').split(/\s+/).includes(controller)) continue;
        writeFileSync(file, `+${controller}`);
      } catch {
        break; // not available above (or EBUSY: the cgroup has processes), so not below either
      }
    }
}

/** The bounds on cgroups below an agent's own: enough for a container that manages cgroups itself. */
const NESTING = { 'cgroup.max.depth': '8', 'cgroup.max.descendants': '256' };

/**
 * Bounds the cgroups below an agent's own, each of which costs kernel memory and a step of every walk. Only a help: an agent
 * with the worker's user may lift the bounds, so nothing relies on them.
 */
export function limitNesting({ path }: Cgroup): void {
  for (const [file, text] of Object.entries(NESTING))
    try {
      writeFileSync(join(path, file), text, { flag: 'r+' });
    } catch {
      // A kernel without the file (before 4.14), or no right to write it.
    }
}

/** Writes the limits into an agent's cgroup. @returns the limits that could not be applied, with the reason. */
export function applyLimits(group: Cgroup, limits: NodeLimits): UnappliedLimit[] {
  const unapplied: UnappliedLimit[] = [];
  for (const limit of Object.keys(FILES) as (keyof NodeLimits)[]) {
    const value = limits[limit];
    if (value === undefined) continue;
    const { controller, file, text } = FILES[limit];
    try {
      // r+: never create. On cgroupfs a missing file means that the controller is not enabled here.
      writeFileSync(join(group.path, file), text(value), { flag: 'r+' });
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'error';
      const reason =
        code === 'ENOENT'
          ? `the ${controller} controller is not enabled for ${group.path}`
          : `${file} refused ${text(value)} (${code})`;
      unapplied.push({ limit, reason });
    }
  }
  return unapplied;
}

/** Without cgroups no limit can be enforced; each is reported so. */
export function unlimited(limits: NodeLimits): UnappliedLimit[] {
  return (Object.keys(FILES) as (keyof NodeLimits)[])
    .filter((limit) => limits[limit] !== undefined)
    .map((limit) => ({ limit, reason: 'limits need cgroup containment; this worker has none' }));
}
