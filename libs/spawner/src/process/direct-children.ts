import { readdirSync } from 'node:fs';
import { childrenOf } from './descendants';
import type { DescentUser } from './descent.types';
import { OwnChildren } from './own-children';
import { readStat, type PidStart, type ProcStat } from './proc-stat';

/** What a process bears of a tree. */
export interface Signs {
  /** From its environment and its limits. */
  readonly cookies: readonly string[];
  readonly cgroup: string | undefined;
}

/** A child that was adopted here. */
export interface Child {
  readonly stat: ProcStat;
  /** The host whose guardian is the child's parent; undefined: it is this process's child. */
  readonly below: DescentUser | undefined;
  readonly dead: boolean;
  /** Read once a look: after many forks, reading them again for each tree took seconds. */
  signs?: Signs;
}

/**
 * The direct children of this process and of the guardians of its hosts, and who waits for which of them.
 */
export class DirectChildren {
  readonly hosts = new Set<DescentUser>();
  readonly #own = new OwnChildren();

  /** Begins to note the children that other code of this process starts. @param isAdopted those that are there already. */
  watch(isAdopted: (child: ProcStat) => boolean): void {
    const there = this.ofThisProcess().flatMap((pid) => readStat(pid) ?? []);
    this.#own.watch(there.filter((stat) => !isAdopted(stat)));
  }

  unwatch(): void {
    this.#own.unwatch();
  }

  /** The guardians' children first: if a guardian dies meanwhile, its children are among ours by then. */
  *list(): Generator<[pid: number, below: DescentUser | undefined]> {
    const lists = [...this.hosts].map((host): [DescentUser | undefined, number[]] => [
      host,
      childrenBelow(host),
    ]);
    lists.push([undefined, this.ofThisProcess()]);
    for (const [below, pids] of lists) for (const pid of pids) yield [pid, below];
  }

  /** The kernel lists children under the thread that started them, and adopted ones under the first. */
  ofThisProcess(): number[] {
    return childrenOf({ pid: process.pid, threads: readdirSync('/proc/self/task').length });
  }

  /**
   * A test for the children that other code of this process started, and waits for. It is true at the time of this call: libuv
   * reaps its children between two turns, and their numbers are given away again.
   */
  ownNow(): { has(pid: number): boolean; is(child: PidStart): boolean } {
    const own = this.#own.pids();
    return {
      has: (pid) => own.has(pid),
      is: ({ pid, startTime }) => own.has(pid) && (own.get(pid) ?? startTime) === startTime,
    };
  }

  /** Whether no other code of this process starts processes that may leave orphans. */
  get isAlone(): boolean {
    return [...this.hosts].every(({ ownsProcess }) => ownsProcess);
  }

  /** Whether the process is the guardian of a host. */
  isGuardian(pid: number): boolean {
    return [...this.hosts].some(({ guardian }) => guardian.pid === pid);
  }

  /** Whether the child is a first process: its end is reported before it is reaped. */
  isHeld(pid: number): boolean {
    return [...this.hosts].some(({ guardian }) => guardian.starts?.holds(pid) === true);
  }

  /** Waits until the guardians have answered every start, or every reap, that is under way. */
  async answered(kind: 'start' | 'reap'): Promise<void> {
    const under = [...this.hosts].flatMap(({ guardian }) => guardian.starts?.settled(kind) ?? []);
    if (under.length === 0) return;
    await Promise.all(under);
    // Until the requester has processed the answer.
    await nextTurn();
  }
}

/** The guardian has all its children under its first thread. */
function childrenBelow({ guardian: { pid, starts } }: DescentUser): number[] {
  return pid === undefined || starts === undefined ? [] : childrenOf({ pid, threads: 1 });
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
