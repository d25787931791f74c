import { readdirSync } from 'node:fs';
import { findAlive, isRunning, readStat, type ProcStat } from './proc-stat';
import { isAbsent, readKernelFile } from './read-kernel-file';

/** More than any tree has, except a fork bomb; the sweep finds the others. */
const MAX_FOUND = 2_000;

/**
 * The running descendants of `roots`, by /proc/PID/task/TID/children. It takes one read or two for each process, so it can be
 * done before the first signal. That matters: if the signal ends a parent, nothing else tells whose child it was when the child
 * also left the session and cleared its environment. Empty on kernels without that file.
 */
export function findDescendants(roots: readonly ProcStat[]): ProcStat[] {
  const found = new Map<number, ProcStat>();
  const queue = [...roots];
  for (let parent = queue.pop(); parent !== undefined; parent = queue.pop()) {
    const children = childrenOf(parent).flatMap((pid) =>
      found.has(pid) ? [] : (childStat(pid, parent.pid) ?? []),
    );
    // A parent that still lives has kept its pid all the while, so these are its children.
    if (children.length === 0 || findAlive(parent) === undefined) continue;
    for (const child of children) {
      if (found.size >= MAX_FOUND) return [...found.values()];
      found.set(child.pid, child);
      queue.push(child);
    }
  }
  return [...found.values()];
}

function childStat(pid: number, parent: number): ProcStat | undefined {
  const stat = readStat(pid);
  return stat?.parent === parent && isRunning(stat) ? stat : undefined;
}

/** The pids of one process's children; empty when the process is gone. */
export function childrenOf({ pid, threads }: Pick<ProcStat, 'pid' | 'threads'>): number[] {
  const tasks = threads > 1 ? tasksOf(pid) : [String(pid)];
  return tasks.flatMap((task) => {
    const text = readKernelFile(`/proc/${pid}/task/${task}/children`) ?? '';
    return text.split(' ').flatMap((child) => Number(child) || []);
  });
}

/** The kernel lists a child under the thread that forked it. */
function tasksOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}
