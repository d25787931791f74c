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
  /** Children of this process that lead a group: a signal to the group reaches all of it in one step, so no fork escapes. */
  readonly leaders: readonly PidStart[];
  /**
   * Whether to reap dead children: `all`, since no other code waits for them; or only the orphans, and not the leaders. The init of
   * a PID namespace has not ended until the orphans of that namespace are reaped.
   */
  readonly reap: 'all' | 'orphans' | 'none';
  /** The worker's cgroup. It must be empty too. */
  readonly cgroup: Cgroup | undefined;
}

/**
 * Kills every descendant of this process, a child subreaper, until none runs or `boundMs` have passed. No descendant can leave:
 * one that loses its parent becomes a child of this process. So the end is proved when no child runs, and none has ended since
 * the look before, because such a child may have left us children meanwhile.
 */
export async function endDescendants(boundMs: number, libc: Libc, below: Below): Promise<EndedTrees> {
  const { cgroup } = below;
  // Before the first signal, which may reach all of them before anybody has looked.
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
      for (const { pid } of dead) if (isToReap(below, pid)) reapChild(libc, pid);
      if (running.length > 0) seen = seenAlive(running);
      else if (isPopulated) seen = { why: 'populated' };
    } catch (error) {
      // No descriptor is left: the survivors are unknown, and the next round looks again.
      seen = seenError(error);
    }
    if (seen === undefined) continue;
    const unproved = rounds.giveUp(seen);
    if (unproved !== undefined) return { proved: false, processes: [...found.values()], evidence, unproved };
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

function isToReap({ reap, leaders }: Below, pid: number): boolean {
  if (reap === 'orphans') return leaders.every((leader) => leader.pid !== pid);
  return reap === 'all';
}

/** Kills by cgroup and by group. A cgroup that cannot be written keeps no group from its signal. */
function strike({ cgroup, leaders }: Below, libc: Libc): void {
  try {
    cgroup?.kill(libc);
  } finally {
    for (const leader of leaders) signalGroup(leader, 'SIGKILL');
  }
}

/** The kernel lists them under the first thread, which starts them and adopts the orphans. */
function ownChildren(): ProcStat[] {
  return childrenOf({ pid: process.pid, threads: 1 }).flatMap((pid) => readStat(pid) ?? []);
}

function key({ pid, startTime }: ProcStat): string {
  return `${pid}:${startTime}`;
}
