import type { Libc } from '../native';
import { Cgroup } from './cgroup';
import { findDescendants } from './descendants';
import { Rounds, seenAlive, seenError, type EndedTrees } from './ended-trees';
import { findMembers } from './members';
import { findAlive, readStat, type PidStart, type ProcStat } from './proc-stat';
import { signalGroup, signalProcess } from './signal-process';
import type { UidMarks } from './uid-marks';
import type { Seen } from './unproved';
import { Sweeper, WORKER_COOKIE_VARIABLE, type Sweep, type SweptProcess } from './sweep';

/** The marks of every process of one worker on this machine. */
export interface WorkerMarks {
  /** Its 128-bit cookie; never empty. */
  readonly cookie: string;
  /** Its cgroup v2 directory, in containment `cgroup`. */
  readonly cgroup: string | undefined;
  /** First processes of its trees, as far as known. */
  readonly leaders: readonly PidStart[];
  /** Where the users of its agents are marked, with isolation `user`. */
  readonly uids?: UidMarks | undefined;
}

const LONGEST_PAUSE_MS = 250;
/** A report names at most this many processes. */
const MAX_NAMES = 2_000;

/**
 * Kills every process of a worker at once, until none is seen or `boundMs` have passed. For the guardian (the worker died or
 * fell silent) and for the reaper (both died). There is no grace: nobody is left to listen to the agents.
 */
export async function endWorkerTrees(
  marks: WorkerMarks,
  boundMs: number,
  libc: Libc | undefined,
): Promise<EndedTrees> {
  const cgroup = marks.cgroup === undefined ? undefined : new Cgroup(marks.cgroup);
  const found = new Map<string, ProcStat>();
  const sweeper = new Sweeper(WORKER_COOKIE_VARIABLE);
  const rounds = new Rounds(boundMs);
  const note = (process: ProcStat | undefined): void => {
    if (process !== undefined) found.set(`${process.pid}:${process.startTime}`, process);
  };
  // Before the first signal: a child that stripped every mark is known only by its parent, and not once the parent has ended.
  const below = descendantsOf(marks.leaders);
  const known = new Map(below.map(({ pid, startTime }) => [pid, startTime]));
  if (cgroup !== undefined) for (const process of namesOf(cgroup)) note(process);
  strike(cgroup, marks, below, libc);
  const evidence = [cgroup === undefined ? ('sweep-empty' as const) : ('cgroup-empty' as const)];
  for (let emptyPasses = 0, pauseMs = 1; ;) {
    const { members, seen } = await look(sweeper, marks, known, cgroup);
    emptyPasses = seen === undefined ? emptyPasses + 1 : 0;
    if (emptyPasses === 2) return { proved: true, processes: [...found.values()], evidence };
    if (seen === undefined) continue;
    for (const member of members) note(member);
    strike(cgroup, marks, members, libc);
    const unproved = rounds.giveUp(seen);
    if (unproved !== undefined) return { proved: false, processes: [...found.values()], evidence, unproved };
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

/** Each part runs by itself, so that a failure keeps none of the others back. */
function strike(
  cgroup: Cgroup | undefined,
  marks: WorkerMarks,
  members: readonly PidStart[],
  libc: Libc | undefined,
): void {
  attempt(() => cgroup?.kill(libc));
  for (const leader of marks.leaders) attempt(() => signalGroup(leader, 'SIGKILL'));
  for (const member of members) attempt(() => signalProcess(member, 'SIGKILL', libc));
}

/** For the report alone: an agent can make a cgroup that nobody can list, and that must not prevent a signal. */
export function namesOf(cgroup: Cgroup): ProcStat[] {
  return (
    attempt(() =>
      cgroup
        .pids()
        .slice(0, MAX_NAMES)
        .flatMap((pid) => readStat(pid) ?? []),
    ) ?? []
  );
}

/** @returns `seen` undefined where nothing is left; otherwise the processes seen, or why none could be (out of descriptors). */
async function look(
  sweeper: Sweeper,
  marks: WorkerMarks,
  known: ReadonlyMap<number, string>,
  cgroup: Cgroup | undefined,
): Promise<{ readonly members: readonly SweptProcess[]; readonly seen: Seen | undefined }> {
  let members: SweptProcess[] = [];
  try {
    const sweep = await sweeper.sweep();
    members = findAll(sweep, marks, known);
    if (members.length > 0) return { members, seen: seenAlive(members) };
    if (!sweep.sound) return { members, seen: { why: 'unsound' } };
    return { members, seen: cgroup?.populated() === true ? { why: 'populated' } : undefined };
  } catch (error) {
    return { members, seen: seenError(error) };
  }
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined; // the next round tries again
  }
}

function descendantsOf(leaders: readonly PidStart[]): ProcStat[] {
  try {
    return leaders.flatMap((leader) => {
      const alive = findAlive(leader);
      return alive === undefined ? [] : findDescendants([alive]);
    });
  } catch {
    return []; // no descriptor is left: the passes that follow look for marks
  }
}

function findAll(sweep: Sweep, marks: WorkerMarks, known: ReadonlyMap<number, string>): SweptProcess[] {
  const none = { pid: -1, startTime: '' };
  const all = new Map<number, SweptProcess>();
  for (const leader of [none, ...marks.leaders]) {
    // A leader that no longer exists identifies no session: its number may have been given away since.
    const holds = sweep.byPid.get(leader.pid)?.startTime === leader.startTime;
    const reapedAt = holds ? undefined : 0;
    for (const member of findMembers(sweep, { leader, cookie: marks.cookie, reapedAt, known }))
      all.set(member.pid, member);
  }
  return [...all.values()];
}
