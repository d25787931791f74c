import { findAlive, type PidStart, type ProcStat } from './proc-stat';
import type { Sweep } from './sweep';

/** A tree as lineage knows it. */
export interface Ancestor {
  readonly leader: PidStart;
  /** Whether a process belongs to the leader's session, and no stranger can have been given that session's number since. */
  ownsSession(process: ProcStat): boolean;
}

/**
 * The ancestor of each process, as the kernel told it while its parents lived: no process can choose its parent or be born into
 * another's session. A process's own claims (environment, limits) do not count.
 */
export class Lineage<T extends Ancestor> {
  /** By pid and start time. */
  #owners = new Map<string, T>();
  readonly #byLeader = new Map<number, T>();

  add(tree: T): void {
    this.#byLeader.set(tree.leader.pid, tree);
  }

  remove(tree: T): void {
    if (this.#byLeader.get(tree.leader.pid) === tree) this.#byLeader.delete(tree.leader.pid);
    for (const [key, owner] of this.#owners) if (owner === tree) this.#owners.delete(key);
  }

  trees(): Iterable<T> {
    return this.#byLeader.values();
  }

  get size(): number {
    return this.#byLeader.size;
  }

  /** Notes processes that were seen as descendants of a live process of `tree`. */
  learn(tree: T, processes: Iterable<PidStart>): void {
    for (const process of processes) this.#owners.set(key(process), tree);
  }

  ownerOf(process: ProcStat): T | undefined {
    const byBirth = this.#byLeader.get(process.pid);
    if (byBirth?.leader.startTime === process.startTime) return byBirth;
    const known = this.#owners.get(key(process));
    if (known !== undefined) return known;
    const ofSession = this.#byLeader.get(process.session);
    return ofSession?.ownsSession(process) === true ? ofSession : undefined;
  }

  /** Takes the descendants from a pass, and forgets processes that are not in it. */
  absorb(sweep: Sweep): void {
    const owners = new Map<string, T>();
    const queue: ProcStat[] = [];
    for (const process of sweep.byPid.values()) {
      const owner = this.ownerOf(process);
      if (owner === undefined) continue;
      owners.set(key(process), owner);
      queue.push(process);
    }
    for (let parent = queue.pop(); parent !== undefined; parent = queue.pop()) {
      const owner = owners.get(key(parent));
      const fresh = (sweep.children.get(parent.pid) ?? []).filter((child) => !owners.has(key(child)));
      // The pass is not atomic: only a parent that still lives has kept its pid all the while.
      if (owner === undefined || fresh.length === 0 || findAlive(parent) === undefined) continue;
      for (const child of fresh) {
        owners.set(key(child), owner);
        queue.push(child);
      }
    }
    this.#owners = owners;
  }
}

function key({ pid, startTime }: PidStart): string {
  return `${pid}:${startTime}`;
}
