import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Cgroup } from './cgroup';
import { readKernelFile } from './read-kernel-file';

/** A directory for the worker's cgroups, or a sentence why there is none. */
export type CgroupPlace = { readonly parent: Cgroup } | { readonly reason: string };

/**
 * Finds the cgroup v2 directory to work under: the configured one, else this process's own, on a unified or hybrid mount. It
 * must be writable, have `cgroup.kill` (Linux 5.14), and accept a process that moves in.
 */
export function locateCgroup(configured: string | undefined): CgroupPlace {
  if (process.platform !== 'linux') return { reason: 'cgroups are a Linux thing' };
  const path = configured ?? ownCgroup();
  if (path === undefined) return { reason: 'no cgroup v2 file system is mounted' };
  try {
    if (!statSync(join(path, 'cgroup.procs')).isFile()) return { reason: `${path} is not a cgroup` };
    accessSync(path, constants.W_OK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    return { reason: `${path} is not a writable cgroup v2 directory (${code})` };
  }
  return { parent: new Cgroup(path) };
}

/**
 * Tries the step that every start takes: a child that moves itself into the cgroup.
 * @returns the cgroup with the path that /proc shows for that child; a reason when the move fails.
 */
export function tryCgroup(group: Cgroup): { readonly cgroup: Cgroup } | { readonly reason: string } {
  let procs: number;
  try {
    accessSync(join(group.path, 'cgroup.kill'), constants.W_OK);
    procs = openSync(join(group.path, 'cgroup.procs'), 'w');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    return {
      reason: `${group.path} has no writable cgroup.kill and cgroup.procs (${code}); Linux 5.14 or later is needed`,
    };
  }
  try {
    const line = 'echo 0 >&3 && while read -r line; do echo "$line"; done </proc/self/cgroup';
    const probe = spawnSync('/bin/sh', ['-c', line], {
      stdio: ['ignore', 'pipe', 'ignore', procs],
      timeout: 5_000,
      encoding: 'latin1',
    });
    return probe.status === 0
      ? { cgroup: new Cgroup(group.path, pathIn(probe.stdout)) }
      : { reason: `no process can be moved into ${group.path}` };
  } finally {
    closeSync(procs);
  }
}

/**
 * The cgroup v2 path of a process, as its namespace shows it. Undefined when the process is gone, or its path cannot be read:
 * an agent may nest cgroups until their path is longer than the kernel returns.
 */
export function readCgroupPath(pid: number): string | undefined {
  try {
    return pathIn(readKernelFile(`/proc/${pid}/cgroup`) ?? '');
  } catch {
    return undefined;
  }
}

/** The path in the text of /proc/PID/cgroup. A dead process names the cgroup in which it died. */
function pathIn(text: string): string | undefined {
  return /^0::(.*?)(?: \(deleted\))?$/m.exec(text)?.[1];
}

/** This process's cgroup v2 directory, from /proc/self/cgroup (`0::`) and the mount that shows it. */
function ownCgroup(): string | undefined {
  const own = pathIn(readText('/proc/self/cgroup'));
  if (own === undefined) return undefined;
  for (const mount of readText('/proc/self/mountinfo').split('\n')) {
    const [left = '', right = ''] = mount.split(' - ');
    if (!right.startsWith('cgroup2 ')) continue;
    const [, , , root = '/', point = ''] = left.split(' ');
    const inside = relative(root, own);
    if (!inside.startsWith('..')) return join(point, inside);
  }
  return undefined;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
