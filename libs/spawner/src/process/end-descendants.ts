import { reapChild, type Libc } from '../native';
import type { Cgroup } from './cgroup';
import { childrenOf, findDescendants } from './descendants';
import { namesOf } from './end-worker-trees';
import { Rounds, seenAlive, seenError, type EndedTrees } from './ended-trees';
import { isRunning, readStat, type PidStart, type ProcStat } from './proc-stat';
import { signalGroup, signalProcess } from './signal-process';
import type { Seen } from './unproved';

const LONGEST_PAUSE_MS = 100;

interface Below {
  /** Children of this process that lead a group: a signal to that reaches all of it in one step, also against forks. */
  readonly leaders: readonly PidStart[];
  /** Whether the dead are taken out of the process table: nobody else waits for them. */
  readonly reap: boolean;
  /** The worker's. It has to be empty too. */
  readonly cgroup: Cgroup | undefined;
}

/**
 * Kills everything that descends from this process, a child subreaper, until nothing of it runs or `boundMs` have passed.
 * No descendant can leave: whoever loses its parent becomes a child of this process. So it is proved when none of its
 * children runs, and none has ended since the look before: such a one may have handed over children meanwhile.
 */
export async function endDescendants(boundMs: number, libc: Libc, below: Below): Promise<EndedTrees> {
  const { cgroup } = below;
  // Before the first signal: it may reach all of them before anybody has looked.
  const named = cgroup === undefined ? [] : namesOf(cgroup);
  const found = new Map(named.map((process) => [key(process), process]));
  const evidence =
    cgroup === undefined ? (['descent-empty'] as const) : (['cgroup-empty', 'descent-empty'] as const);
  const rounds = new Rounds(boundMs);
  let deadBefore = new Set<string>();
  for (let pauseMs = 1; ;) {
    let seen: Seen | undefined;
    try {
      strike(below, libc);
      const children = ownChildren();
      const running = children.filter(isRunning);
      for (const process of [...running, ...findDescendants(running)]) {
        found.set(key(process), process);
        signalProcess(process, 'SIGKILL', libc);
      }
      const dead = children.filter((child) => !isRunning(child));
      const isQuiet = running.length === 0 && dead.every((child) => deadBefore.has(key(child)));
      const isPopulated = cgroup?.populated() === true;
      if (isQuiet && !isPopulated) return { proved: true, processes: [...found.values()], evidence };
      deadBefore = new Set(dead.map(key));
      if (below.reap) for (const { pid } of dead) reapChild(libc, pid);
      if (running.length > 0) seen = seenAlive(running);
      else if (isPopulated) seen = { why: 'populated' };
    } catch (error) {
      // Out of descriptors: who is left is not known, and the next round looks again.
      seen = seenError(error);
    }
    if (seen === undefined) continue;
    const unproved = rounds.giveUp(seen);
    if (unproved !== undefined) return { proved: false, processes: [...found.values()], evidence, unproved };
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

/** A cgroup that cannot be written keeps no signal to a group back. */
function strike({ cgroup, leaders }: Below, libc: Libc): void {
  try {
    cgroup?.kill(libc);
  } finally {
    for (const leader of leaders) signalGroup(leader, 'SIGKILL');
  }
}

/** They hang on the first thread, which starts them and is given the orphans. */
function ownChildren(): ProcStat[] {
  return childrenOf({ pid: process.pid, threads: 1 }).flatMap((pid) => readStat(pid) ?? []);
}

function key({ pid, startTime }: ProcStat): string {
  return `${pid}:${startTime}`;
}
