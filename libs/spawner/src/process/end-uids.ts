import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Libc } from '../native';
import { Rounds, seenAlive, type EndedTrees } from './ended-trees';
import type { ProcStat } from './proc-stat';
import { signalProcess } from './signal-process';
import { listMarks, readOwner, removeMark, removeOwner, revoke, type UidMarks } from './uid-marks';
import { lookForUser } from './uid-empty';
import { UidSweeper } from './uid-sweep';
import type { Unproved } from './unproved';

const LONGEST_PAUSE_MS = 250;

/** The end of every process of some users. */
export interface EndedUids {
  /** A pass that missed none found none. */
  readonly proved: boolean;
  /** Processes that were found alive. */
  readonly processes: readonly ProcStat[];
  readonly unproved?: Unproved;
}

/** The user ids that a worker has taken. */
export const uidsOf = ({ folder, token }: UidMarks): number[] =>
  listMarks(folder).flatMap((mark) => (mark.token === token ? [mark.uid] : []));

/** Kills every process of these users until none exists or `boundMs` have passed. */
export async function endUids(
  uids: readonly number[],
  boundMs: number,
  libc: Libc | undefined,
): Promise<EndedUids> {
  const found = new Map<string, ProcStat>();
  const sweeper = new UidSweeper();
  const rounds = new Rounds(boundMs);
  const giveUpAt = performance.now() + boundMs;
  for (let pauseMs = 1; uids.length > 0;) {
    const sweep = await sweeper.sweep();
    const there = uids.flatMap((uid) => sweep.of(uid));
    if (there.length === 0 && (sweep.sound || (await areEmpty(uids, sweeper, giveUpAt)))) break;
    for (const process of there) {
      found.set(`${process.pid}:${process.startTime}`, process);
      signalProcess(process, 'SIGKILL', libc);
    }
    const unproved = rounds.giveUp(there.length === 0 ? { why: 'unsound' } : seenAlive(there));
    if (unproved !== undefined) return { proved: false, processes: [...found.values()], unproved };
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
  return { proved: true, processes: [...found.values()] };
}

/** One after the other: this is for a machine on which processes come and go faster than they can be read. */
async function areEmpty(uids: readonly number[], sweeper: UidSweeper, giveUpAt: number): Promise<boolean> {
  for (const uid of uids)
    if (performance.now() > giveUpAt || !(await lookForUser(uid, sweeper)).isEmpty) return false;
  return true;
}

/** Kills and looks for processes of the users of a worker's agents too. A proof of their end has the evidence `uid-empty`. */
export async function endByUser(
  ended: EndedTrees,
  marks: UidMarks,
  boundMs: number,
  libc: Libc | undefined,
): Promise<EndedTrees> {
  try {
    // The owner file is removed after the last mark. Without it nothing names the users, and a look at no user proves nothing.
    if (readOwner(marks) === undefined) return ended;
    const byUser = await endUids(uidsOf(marks), boundMs, libc);
    const unproved = ended.unproved ?? byUser.unproved;
    return {
      proved: ended.proved && byUser.proved,
      processes: [...ended.processes, ...byUser.processes],
      evidence: [...ended.evidence, 'uid-empty'],
      ...(unproved === undefined ? {} : { unproved }),
    };
  } catch {
    // The marks cannot be read: only the evidence of the other means counts.
    return ended;
  }
}

/**
 * Called before a kill; trouble with it must not delay the kill. @returns false: a start under way may come after the looks.
 */
export function tryToRevoke(marks: UidMarks | undefined): boolean {
  try {
    if (marks !== undefined) revoke(marks);
    return true;
  } catch {
    return false;
  }
}

/**
 * Gives back the ids of a worker that starts nothing any more: their homes, then their marks. A running process could redirect
 * the removal of its home, so there must be none.
 * @returns false, and gives nothing back, while one may run.
 */
export async function giveBackUids(marks: UidMarks): Promise<boolean> {
  revoke(marks);
  const sweep = await new UidSweeper().sweep();
  if (!sweep.sound || uidsOf(marks).some((uid) => sweep.of(uid).length > 0)) return false;
  const homes = readOwner(marks)?.homes;
  if (homes !== undefined) await removeTree(homes);
  for (const uid of uidsOf(marks)) removeMark(marks, uid);
  removeOwner(marks);
  return true;
}

/** An agent may have made its folders unreadable, which does not stop root. Never rejects. */
export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
}

export const homeOf = (homes: string, uid: number): string => join(homes, String(uid));
