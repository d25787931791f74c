import { readdirSync } from 'node:fs';
import { findAlive, isRunning, readStat, type ProcStat } from './proc-stat';
import { isAbsent, readKernelFile } from './read-kernel-file';

/** More than any tree but a fork bomb has; the sweep finds the rest. */
const MAX_FOUND = 2_000;

/**
 * The running descendants of `roots`, by /proc/PID/task/TID/children: one read or two a process, so it can be done
 * before the first signal. That matters, because a child whose parent ended by that signal has lost the one thing
 * that told whose it is, if it also left the session and cleared its environment. Empty on kernels without that file.
 */
export function findDescendants(roots: readonly ProcStat[]): ProcStat[] {
  const found = new Map<number, ProcStat>();
  const queue = [...roots];
  for (let parent = queue.pop(); parent !== undefined; parent = queue.pop()) {
    const children = childrenOf(parent).flatMap((pid) =>
      found.has(pid) ? [] : (childStat(pid, parent.pid) ?? []),
    );
    // Only a parent that still lives has held its pid all the while, so that these are its children indeed (requirement R21).
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

/** Pids of the children of one process; empty when it is gone. */
export function childrenOf({ pid, threads }: Pick<ProcStat, 'pid' | 'threads'>): number[] {
  const tasks = threads > 1 ? tasksOf(pid) : [String(pid)];
  return tasks.flatMap((task) => {
    const text = readKernelFile(`/proc/${pid}/task/${task}/children`) ?? '';
    return text.split(' ').flatMap((child) => Number(child) || []);
  });
}

/** Children hang on the thread that forked them. */
function tasksOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}
