import { isRunning, listPids, newestPid, readStat, type ProcStat } from './proc-stat';
import { readKernelFile } from './read-kernel-file';

/** The running processes of some users, as one pass over /proc saw them. */
export interface UidSweep {
  /** Whether none that lived all through the pass was missed; see `Sweep.sound`. */
  readonly sound: boolean;
  of(uid: number): readonly ProcStat[];
}

/** The longest the event loop is held by one piece of a pass, milliseconds. */
const SLICE_MS = 4;
/** How often one pass lists again because a process ended before it was read. */
const MOST_LISTINGS = 25;

/**
 * Finds every process by whom the kernel says it belongs to. A process is of a user when any of its four ids is that one:
 * real, effective, saved, file system. One pass serves all who asked before it began.
 */
export class UidSweeper {
  #waiting: Promise<UidSweep> | undefined;
  #active: Promise<unknown> | undefined;

  /** The result of a pass that begins after this call. */
  sweep(): Promise<UidSweep> {
    this.#waiting ??= this.#begin();
    return this.#waiting;
  }

  async #begin(): Promise<UidSweep> {
    await this.#active;
    await nextTurn(); // so that everyone who asks in this turn of the loop shares the pass
    this.#waiting = undefined;
    const pass = sweepOnce();
    this.#active = pass.catch(() => undefined);
    return pass;
  }
}

async function sweepOnce(): Promise<UidSweep> {
  const found = new Map<number, ProcStat[]>();
  const listed = new Set<number>();
  const newest = newestPid();
  let sliceStart = performance.now();
  let unread = true;
  for (let listings = 0; unread && listings < MOST_LISTINGS; listings += 1) {
    unread = false;
    for (const pid of listPids()) {
      if (listed.has(pid)) continue;
      listed.add(pid);
      if (performance.now() - sliceStart > SLICE_MS) {
        await nextTurn();
        sliceStart = performance.now();
      }
      const seen = readOwned(pid);
      // It may have forked after the listing: its child has a higher number, so that one is listed next.
      if (seen === undefined) unread = true;
      if (seen?.stat === undefined) continue;
      for (const uid of seen.uids) {
        const stats = found.get(uid);
        if (stats === undefined) found.set(uid, [seen.stat]);
        else stats.push(seen.stat);
      }
    }
  }
  return {
    sound: !unread && newestPid() >= newest,
    of: (uid) => found.get(uid) ?? [],
  };
}

interface Owned {
  /** Absent where it is root's alone. */
  readonly stat?: ProcStat;
  readonly uids: ReadonlySet<number>;
}

/** A process and its users, without root; undefined when it has ended. Most are root's, and one file says so. */
function readOwned(pid: number): Owned | undefined {
  const first = readUids(pid);
  if (first === undefined || first.size === 0) return first && { uids: first };
  const stat = readStat(pid);
  // Once more: of a number that was given away in between, the users have to be those of who is named by `stat`, or of nobody
  // who lives (requirement R21).
  const uids = readUids(pid);
  return stat === undefined || uids === undefined || !isRunning(stat) ? undefined : { stat, uids };
}

function readUids(pid: number): ReadonlySet<number> | undefined {
  const ids = /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(readKernelFile(`/proc/${pid}/status`) ?? '');
  if (ids === null) return undefined;
  const uids = new Set(ids.slice(1).map(Number));
  uids.delete(0);
  return uids;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
