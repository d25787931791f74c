import { existsSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { becomeSubreaper, leaveSubreaper, openLibc, type Libc } from '../native';
import { childrenOf } from './descendants';
import type { DescentUser, HeldTree, Verdict } from './descent.types';
import { DirectChildren, nextTurn, type Child, type Signs } from './direct-children';
import { readCgroupPath } from './cgroup-locate';
import { Lineage } from './lineage';
import { readMark } from './limit-mark';
import { OrphanReaper, REAP_MS } from './orphan-reaper';
import { isRunning, readEnvironment, readStat, type ProcStat } from './proc-stat';
import { signalProcess } from './signal-process';
import { COOKIE_VARIABLE, Sweeper, WORKER_COOKIE_VARIABLE, type Sweep } from './sweep';

/** The detail of the evidence `descent-empty`. */
export const NO_DESCENDANT = 'no child of the worker belongs to the tree, and no descendant can leave it';
/** One proof takes this many looks at most; more than one only while processes end that may belong to the tree. */
const MOST_LOOKS = 4;
/** Between two looks for orphans that are being killed. Milliseconds. */
const LONGEST_PAUSE_MS = 20;
/** At most this many reported escapees are remembered, until they are gone. */
const MAX_TOLD = 10_000;

/** A child as a look found it. */
interface LookedAt extends Child {
  /** Whether it was dead in the previous look too. */
  readonly deadBefore: boolean;
}

/**
 * Containment by descent (ADR 0016). The guardian, which starts the agents, is a child subreaper. A descendant that loses its
 * parent becomes the guardian's child, whatever the descendant did to its environment, session or limits. This process, above
 * the guardian, is a subreaper too: when a guardian dies, its children become ours. So every living process of a tree has an
 * ancestor among the direct children of the guardian and of this process. The tree is empty when none of these children
 * belongs, or can belong, to it.
 *
 * There is one for the whole process. Every host of the process that uses descent shares it, with a guardian of its own.
 */
class Descent {
  readonly #libc: Libc;
  readonly #direct = new DirectChildren();
  readonly #reaper: OrphanReaper;
  readonly lineage = new Lineage<HeldTree>();
  /** Looks at the descendants of this process only, not at all of /proc. */
  readonly sweeper = new Sweeper(
    COOKIE_VARIABLE,
    (sweep) => this.#passed(sweep),
    () => this.#walk(),
    (parent) => parent === process.pid || this.#direct.isGuardian(parent),
  );
  /** The adopted children of the last look, by pid. */
  #children = new Map<number, LookedAt>();
  readonly #told = new Set<string>();
  /** Counts how often the last host left. */
  #term = 0;
  /** A look that has not begun. Callers until then share it. */
  #waiting: Promise<number> | undefined;
  /** Settles when the work under way ends: looks and reaps do not overlap. */
  #active: Promise<unknown> = Promise.resolve();
  #reapTimer: NodeJS.Timeout | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#reaper = new OrphanReaper(libc, this.#direct, (child) => this.#isUnknown(child));
  }

  /** @throws NativeError when this process cannot become a subreaper. */
  enter(user: DescentUser): void {
    const { hosts } = this.#direct;
    if (hosts.size === 0) {
      becomeSubreaper(this.#libc);
      // Such a child was adopted for an earlier host of this process, and no other code owns it.
      this.#direct.watch(({ pid, startTime }) => this.#children.get(pid)?.stat.startTime === startTime);
    }
    hosts.add(user);
    this.#reapTimer ??= setInterval(() => void this.#reapSoon(), REAP_MS).unref();
  }

  leave(user: DescentUser): void {
    const { hosts } = this.#direct;
    if (!hosts.has(user)) return;
    if (hosts.size === 1) this.#reaper.leave();
    hosts.delete(user);
    if (hosts.size > 0) return;
    this.#term++;
    clearInterval(this.#reapTimer);
    this.#reapTimer = undefined;
    this.#direct.unwatch();
    this.#told.clear();
    leaveSubreaper(this.#libc);
  }

  /**
   * A look at the direct children that begins after this call; one look serves all calls of one turn. Ends escapees.
   * @returns how many escapees ran and were sent SIGKILL: they may belong to any tree, and may run for a moment yet.
   */
  look(): Promise<number> {
    this.#waiting ??= this.#begin();
    return this.#waiting;
  }

  /**
   * Ends the orphans that belong to no tree, and their descendants, until two looks in a row find none.
   * @returns whether none is left; false after `boundMs`. Never throws.
   */
  async endUnknown(boundMs: number): Promise<boolean> {
    const giveUpAt = performance.now() + boundMs;
    // One look may read the list of children before a process that it finds dead has left its own to us.
    for (let calm = 0, pauseMs = 1; calm < 2; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      // A look that fails, without a descriptor, finds nothing out.
      const escapees = await this.look().catch(() => undefined);
      calm = escapees === 0 ? calm + 1 : 0;
      if (calm > 0) continue;
      if (performance.now() > giveUpAt) return false;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    return true;
  }

  async #begin(): Promise<number> {
    return this.#alone(async () => {
      await nextTurn();
      this.#waiting = undefined;
      return this.#look();
    });
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#active.then(work);
    this.#active = done.catch(() => undefined);
    return done;
  }

  /** Looks until the verdict is certain, up to a bound. @param isQuiet no known process of the tree is running. */
  async judgeTree(tree: HeldTree, isQuiet: () => boolean): Promise<Verdict> {
    for (let look = 1; look <= MOST_LOOKS; look += 1) {
      await this.look();
      const verdict = isQuiet() ? this.verdict(tree) : 'alive';
      if (verdict !== 'unsure') return verdict;
    }
    return 'unsure';
  }

  /** The verdict of the last look. */
  verdict(tree: HeldTree): Verdict {
    let grade: Verdict = 'kernel';
    let isUnsure = false;
    let isShared = false;
    for (const child of this.#children.values()) {
      const { stat, below, dead, deadBefore } = child;
      if (deadBefore || Number(stat.startTime) < Number(tree.leader.startTime)) continue;
      const owner = this.lineage.ownerOf(stat);
      if (owner !== undefined && owner !== tree) continue;
      const marked = owner === undefined ? this.#markOwner(child) : undefined;
      // The process itself says to whom it belongs, and could lie.
      if (marked !== undefined && marked !== tree) grade = 'marks';
      else if (dead) isUnsure = true;
      else if (owner === undefined && marked === undefined && this.#mayBeHosts(stat, below)) isShared = true;
      else return 'alive';
    }
    return isUnsure ? 'unsure' : isShared ? 'shared' : grade;
  }

  async #look(): Promise<number> {
    // The kernel's list of children may lack some while others are removed from it.
    await this.#direct.answered('reap');
    if (this.#direct.hosts.size === 0) return 0;
    const term = this.#term;
    const own = this.#direct.ownNow();
    const before = this.#children;
    const found = new Map<number, LookedAt>();
    for (const [pid, below] of this.#direct.list()) {
      const stat = readStat(pid);
      // Between two turns nobody reaps an adopted child, so a missing one was libuv's.
      if (stat === undefined || (below === undefined && own.is(stat))) continue;
      const dead = !isRunning(stat);
      const was = before.get(pid);
      const deadBefore = dead && was?.dead === true && was.stat.startTime === stat.startTime;
      found.set(pid, { stat, below, dead, deadBefore });
    }
    // Only a list that is complete: a verdict rests on it.
    this.#children = found;
    const children = [...found.values()];
    // An unknown child may be a first process whose start is not answered yet, and it may have ended already.
    if (children.some((child) => !this.#direct.isHeld(child.stat.pid) && this.#isUnknown(child)))
      await this.#direct.answered('start');
    // The hosts that asked are gone. This process may now have children of its own that nobody noted.
    if (term !== this.#term) return 0;
    let escapees = 0;
    for (const child of children) if (!child.dead && this.#judge(child)) escapees += 1;
    this.#reaper.reap(children);
    if (this.#told.size > MAX_TOLD) this.#told.clear();
    return escapees;
  }

  #isUnknown(child: Child): boolean {
    return this.lineage.ownerOf(child.stat) === undefined && this.#markOwner(child) === undefined;
  }

  /** Ends an unknown orphan where it can only be an agent's. @returns whether it is. */
  #judge(child: Child): boolean {
    const { stat, below } = child;
    if (!this.#isUnknown(child)) return false;
    const killed = !this.#mayBeHosts(stat, below);
    if (killed) signalProcess(stat, 'SIGKILL', this.#libc);
    const key = `${stat.pid}:${stat.startTime}`;
    if (this.#told.has(key)) return killed;
    this.#told.add(key);
    const { pid, startTime, command } = stat;
    for (const user of below === undefined ? this.#direct.hosts : [below])
      user.onEscapee({ pid, startTime, command, killed });
    return killed;
  }

  /** An unknown orphan may be the host program's: it became this process's child, and other code starts processes here. */
  #mayBeHosts(stat: ProcStat, below: DescentUser | undefined): boolean {
    return below === undefined && !this.#direct.isAlone && !this.#bearsOurs(stat);
  }

  /** True for a process that a dead guardian had started, or a descendant of one. */
  #bearsOurs({ pid }: ProcStat): boolean {
    const cookies = readEnvironment(pid, WORKER_COOKIE_VARIABLE);
    return [...this.#direct.hosts].some(({ cookie }) => cookies.includes(cookie));
  }

  async #reapSoon(): Promise<void> {
    if (!this.#reaper.isDue) return;
    await this.#alone(async () => this.#reaper.reapAll()).catch(() => undefined);
  }

  /** The tree whose cookie or mark the process bears, in whose cgroup it is, or that knows it from an earlier pass. */
  #markOwner(child: Child): HeldTree | undefined {
    const { stat } = child;
    for (const tree of this.lineage.trees()) if (tree.knows(stat)) return tree;
    const { cookies, cgroup } = (child.signs ??= signsOf(stat));
    for (const tree of this.lineage.trees()) if (cookies.some((cookie) => tree.bears(cookie))) return tree;
    if (cgroup !== undefined) for (const tree of this.lineage.trees()) if (tree.isIn(cgroup)) return tree;
    return undefined;
  }

  #passed(sweep: Sweep): void {
    this.lineage.absorb(sweep);
    for (const tree of this.lineage.trees()) tree.absorb(sweep);
  }

  /** Every descendant of this process, except those that were started for other purposes than agents. */
  *#walk(): Generator<number> {
    const own = this.#direct.ownNow();
    const leaders = new Set([...this.lineage.trees()].map(({ leader }) => leader.pid));
    const seen = new Set<number>();
    // A second round at the end: a process whose parent ended meanwhile has become our child.
    for (let round = 0; round < 2; round += 1) {
      const queue = [...this.#direct.list()].flatMap(([pid, below]) =>
        below !== undefined || leaders.has(pid) || !own.has(pid) ? [pid] : [],
      );
      for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
        if (seen.has(pid)) continue;
        seen.add(pid);
        yield pid;
        const stat = readStat(pid);
        if (stat !== undefined && isRunning(stat)) queue.push(...childrenOf(stat));
      }
    }
  }
}

let descent: Descent | undefined;

export type { Descent };

/** The one of this process. @throws Error where `descentMissing` gives a reason. */
export function theDescent(libc: Libc): Descent {
  descent ??= new Descent(libc);
  return descent;
}

/** Why descent cannot contain trees here; undefined when it can. */
export function descentMissing(native: 'auto' | 'off' | undefined): string | undefined {
  if (native === 'off') return 'BELAY_NATIVE is off';
  if (!isMainThread) return 'a worker thread cannot tell its children from those of other threads';
  const found = openLibc();
  if ('reason' in found) return found.reason;
  if (!existsSync(`/proc/self/task/${process.pid}/children`))
    return 'the kernel has no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN)';
  return undefined;
}

function signsOf({ pid }: ProcStat): Signs {
  return {
    cookies: [...readEnvironment(pid, COOKIE_VARIABLE), ...readMark(pid, 'agent')],
    cgroup: readCgroupPath(pid),
  };
}
