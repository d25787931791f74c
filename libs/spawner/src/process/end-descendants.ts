import { reapChild, type Libc } from '../native';
import { childrenOf, findDescendants } from './descendants';
import type { EndedTrees } from './end-worker-trees';
import { isRunning, readStat, type PidStart, type ProcStat } from './proc-stat';
import { signalGroup, signalProcess } from './signal-process';

const LONGEST_PAUSE_MS = 100;

/**
 * Kills everything that descends from this process, a child subreaper, until nothing of it runs or `boundMs` have passed.
 * No descendant can leave: whoever loses its parent becomes a child of this process. So it is proved when none of its
 * children runs, and none has ended since the look before: such a one may have handed over children meanwhile.
 * @param leaders children of this process that lead a group: a signal to that reaches all of it in one step, also against forks.
 * @param reap whether the dead are taken out of the process table: nobody else waits for them.
 */
export async function endDescendants(
  boundMs: number,
  libc: Libc,
  { leaders, reap }: { readonly leaders: readonly PidStart[]; readonly reap: boolean },
): Promise<EndedTrees> {
  const found = new Map<string, ProcStat>();
  const giveUpAt = performance.now() + boundMs;
  let deadBefore = new Set<string>();
  for (let pauseMs = 1; ;) {
    let isLeft = true;
    try {
      for (const leader of leaders) signalGroup(leader, 'SIGKILL');
      const children = ownChildren();
      const running = children.filter(isRunning);
      for (const process of [...running, ...findDescendants(running)]) {
        found.set(key(process), process);
        signalProcess(process, 'SIGKILL', libc);
      }
      const dead = children.filter((child) => !isRunning(child));
      const isQuiet = running.length === 0 && dead.every((child) => deadBefore.has(key(child)));
      if (isQuiet) return { proved: true, processes: [...found.values()], evidence: 'descent-empty' };
      deadBefore = new Set(dead.map(key));
      if (reap) for (const { pid } of dead) reapChild(libc, pid);
      isLeft = running.length > 0;
    } catch {
      // Out of descriptors: who is left is not known, and the next round looks again.
    }
    if (!isLeft) continue;
    if (performance.now() > giveUpAt)
      return { proved: false, processes: [...found.values()], evidence: 'descent-empty' };
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

/** They hang on the first thread, which starts them and is given the orphans. */
function ownChildren(): ProcStat[] {
  return childrenOf({ pid: process.pid, threads: 1 }).flatMap((pid) => readStat(pid) ?? []);
}

function key({ pid, startTime }: ProcStat): string {
  return `${pid}:${startTime}`;
}
