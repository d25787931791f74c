import { markOf } from './limit-mark';
import { findAlive, type PidStart } from './proc-stat';
import type { Sweep, SweptProcess } from './sweep';

/** The marks of a tree outside a cgroup. */
export interface TreeMarks {
  /** The first process: leader of the session and group. */
  readonly leader: PidStart;
  /** The tree's unguessable cookie; never empty. */
  readonly cookie: string;
  /** Clock ticks since boot when the first process had been reaped; undefined while it had not. */
  readonly reapedAt: number | undefined;
  /** Processes found in earlier passes, by pid, with their start times. */
  readonly known: ReadonlyMap<number, string>;
}

/**
 * The running processes of one tree in one pass. Each is proved to belong to the tree, so that it may be signalled
 * (docs/process-signals.md#no-signal-to-a-foreign-process). It carries the cookie; or it was seen before (same start time); or it is of the
 * leader's session and that number cannot have been given to a stranger; or its parent is such a process and was still alive
 * after the pass.
 */
export function findMembers(sweep: Sweep, marks: TreeMarks): SweptProcess[] {
  const members = new Map<number, SweptProcess>();
  const take = (seen: SweptProcess): void => void members.set(seen.pid, seen);

  if (marks.cookie !== '')
    for (const mark of [marks.cookie, markOf(marks.cookie)]) sweep.byCookie.get(mark)?.forEach(take);
  const leader = sweep.byPid.get(marks.leader.pid);
  if (leader !== undefined && leader.startTime === marks.leader.startTime) take(leader);
  for (const [pid, startTime] of marks.known) {
    const seen = sweep.byPid.get(pid);
    if (seen !== undefined && seen.startTime === startTime) take(seen);
  }
  for (const seen of ofSession(sweep, marks, members)) take(seen);
  addDescendants(sweep, members);
  return [...members.values()];
}

/**
 * A session number stays reserved while one process of the session lives, and a process joins a session by birth only. So a
 * process of that session is ours when the leader is not reaped, when it was born before the leader was reaped, or when another
 * process of the session is known to be ours. A birth in the same clock tick (10 ms) does not count as before: a stranger that
 * was given the number at once would pass for ours.
 */
function ofSession(
  sweep: Sweep,
  marks: TreeMarks,
  members: ReadonlyMap<number, SweptProcess>,
): readonly SweptProcess[] {
  const inSession = sweep.bySession.get(marks.leader.pid);
  if (inSession === undefined) return [];
  const holder = sweep.byPid.get(marks.leader.pid);
  // Another process has the number, so none of our session was left when it was given away.
  if (holder !== undefined && holder.startTime !== marks.leader.startTime) return [];
  const { reapedAt } = marks;
  const ours =
    reapedAt === undefined ||
    inSession.some((seen) => members.has(seen.pid) || Number(seen.startTime) < reapedAt);
  return ours ? inSession : [];
}

function addDescendants(sweep: Sweep, members: Map<number, SweptProcess>): void {
  const queue = [...members.values()];
  for (let parent = queue.pop(); parent !== undefined; parent = queue.pop()) {
    const fresh = (sweep.children.get(parent.pid) ?? []).filter((child) => !members.has(child.pid));
    // The pass is not atomic: only a parent that still lives has kept its pid all the while.
    if (fresh.length === 0 || findAlive(parent) === undefined) continue;
    for (const child of fresh) {
      members.set(child.pid, child);
      queue.push(child);
    }
  }
}
