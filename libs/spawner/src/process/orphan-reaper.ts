import { reapChild, type Libc } from '../native';
import type { DescentUser } from './descent.types';
import { nextTurn, type Child, type DirectChildren } from './direct-children';
import { isRunning, readStat } from './proc-stat';
import { readKernelFile } from './read-kernel-file';

/** Other code in this process has this long to wait for a child that Belay did not start. Milliseconds. */
const FOREIGN_ZOMBIE_MS = 60_000;
/** Dead orphans are reaped this often, also while looks are rare. Milliseconds. */
export const REAP_MS = 250;
/** One piece of that work blocks the event loop for at most this long. Milliseconds. */
const SLICE_MS = 4;

/** Reaps the dead among the adopted children of this process and of its guardians. */
export class OrphanReaper {
  /** By pid and start time, the monotonic time at which a dead child was first found here. */
  #deadSince = new Map<string, number>();
  /** The monotonic time at which dead orphans were last reaped. */
  #reapedAt = 0;

  /** @param isUnknown whether the child belongs to no tree. */
  constructor(
    private readonly libc: Libc,
    private readonly children: DirectChildren,
    private readonly isUnknown: (child: Child) => boolean,
  ) {}

  /** Whether the last reap is long enough ago. */
  get isDue(): boolean {
    return performance.now() - this.#reapedAt >= REAP_MS / 2;
  }

  /** Reaps the dead of these. No other code waits for them, except, in a host program, code that this class cannot see. */
  reap(children: Iterable<Child>): void {
    const { isAlone } = this.children;
    const deadSince = new Map<string, number>();
    const theirs = new Map<DescentUser, number[]>();
    const now = performance.now();
    for (const child of children) {
      const { stat, below, dead } = child;
      if (!dead || this.children.isHeld(stat.pid)) continue;
      if (below !== undefined) {
        const pids = theirs.get(below);
        // A copied list for each took seconds after forks had left 30,000 of them.
        if (pids === undefined) theirs.set(below, [stat.pid]);
        else pids.push(stat.pid);
        continue;
      }
      const key = `${stat.pid}:${stat.startTime}`;
      const since = this.#deadSince.get(key) ?? now;
      deadSince.set(key, since);
      const isOurs = isAlone || !this.isUnknown(child) || isNamespaced(stat.pid);
      if (isOurs || now - since > FOREIGN_ZOMBIE_MS) reapChild(this.libc, stat.pid);
    }
    this.#deadSince = deadSince;
    for (const [host, pids] of theirs) host.guardian.starts?.reap(pids);
    this.#reapedAt = performance.now();
  }

  /**
   * Reaps dead orphans between two looks. A look waits for a pass over the trees, and forks make that pass long: an agent that forks
   * and ends 1,000 times a second would take every pid of the machine meanwhile. The init of a PID namespace has not ended until
   * the orphans of that namespace are reaped, and after the death of a guardian those are this process's children.
   */
  async reapAll(): Promise<void> {
    // The kernel's list of children may lack some while others are removed from it.
    await this.children.answered('reap');
    const found: Child[] = [];
    let sliceStart = performance.now();
    for (const [pid, below] of this.children.list()) {
      if (performance.now() - sliceStart > SLICE_MS) {
        await nextTurn();
        sliceStart = performance.now();
      }
      const stat = readStat(pid);
      if (stat !== undefined && !isRunning(stat)) found.push({ stat, below, dead: true });
    }
    // One of them may be a first process whose start was not answered when the lists were read.
    if (found.some(({ stat }) => !this.children.isHeld(stat.pid))) await this.children.answered('start');
    const own = this.children.ownNow();
    this.reap(found.filter(({ stat, below }) => below !== undefined || !own.is(stat)));
  }

  /** The last reap, of this process's children: nobody looks after them once the last host has left. */
  leave(): void {
    const own = this.children.ownNow();
    const stats = this.children.ofThisProcess().flatMap((pid) => readStat(pid) ?? []);
    const adopted = stats.filter((stat) => !isRunning(stat) && !own.is(stat));
    this.reap(adopted.map((stat) => ({ stat, below: undefined, dead: true })));
    this.#deadSince.clear();
  }
}

/** Whether the process is in a PID namespace below this one. Such an adopted child is an agent's: no other code waits for it. */
function isNamespaced(pid: number): boolean {
  return /^NSpid:\t\d+\t\d/m.test(readKernelFile(`/proc/${pid}/status`) ?? '');
}
