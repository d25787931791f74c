import { isRunning, listPids, newestPid, readStat, type ProcStat } from './proc-stat';
import { readKernelFile } from './read-kernel-file';

/** The running processes of some users, as one pass over /proc saw them. */
export interface UidSweep {
  /** Whether the pass missed no process that lived all through it; see `Sweep.sound`. */
  readonly sound: boolean;
  of(uid: number): readonly ProcStat[];
}

/** One piece of a pass blocks the event loop for at most this long, milliseconds. */
const SLICE_MS = 4;
/** How often one pass lists again because a process ended before it was read. */
const MOST_LISTINGS = 25;

/**
 * Finds every process by its users, as the kernel reports them. A process belongs to a user when any of its four ids is that
 * one: real, effective, saved, file system. One pass serves all calls before its start.
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
    await nextTurn(); // so that all callers of this turn of the event loop share the pass
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
      // It may have forked after the listing. The child has a higher number, so the next listing has it.
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
  /** Absent where the process is root's alone. */
  readonly stat?: ProcStat;
  readonly uids: ReadonlySet<number>;
}

/** A process and its users, without root; undefined when it has ended. Most are root's, and one file tells that. */
function readOwned(pid: number): Owned | undefined {
  const first = readUids(pid);
  if (first === undefined || first.size === 0) return first && { uids: first };
  const stat = readStat(pid);
  // Read again: if the number was given away in between, the users must be those of the process that `stat` names, or of no
  // live process.
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
