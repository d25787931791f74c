import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const MOUNT = '/sys/fs/cgroup/freezer';

/** Why the cgroup v1 freezer cannot be used here; undefined when it can. */
export function freezerMissing(): string | undefined {
  if (!existsSync(join(MOUNT, 'cgroup.procs'))) return 'no cgroup v1 freezer is mounted';
  return process.getuid?.() === 0 ? undefined : 'the cgroup v1 freezer needs root';
}

/**
 * Puts a process into state D, in which even SIGKILL waits, like a hung disk does.
 * @returns a function that releases it; safe to call twice, and when the process is gone.
 */
export function holdUnkillable(pid: number): () => void {
  const folder = join(MOUNT, `belay-trees-${process.pid}-${pid}`);
  mkdirSync(folder);
  writeFileSync(join(folder, 'cgroup.procs'), String(pid));
  writeFileSync(join(folder, 'freezer.state'), 'FROZEN');
  return () => {
    if (existsSync(folder)) writeFileSync(join(folder, 'freezer.state'), 'THAWED');
  };
}

/** Removes the folder of `holdUnkillable` once its process is dead. */
export function removeHold(pid: number): void {
  const folder = join(MOUNT, `belay-trees-${process.pid}-${pid}`);
  if (existsSync(folder)) rmdirSync(folder);
}
