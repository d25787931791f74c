import { existsSync, readdirSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { becomeSubreaper, leaveSubreaper, openLibc, reapChild, type Libc } from '../native';
import { childrenOf } from './descendants';
import { readCgroupPath } from './cgroup-locate';
import { Lineage, type Ancestor } from './lineage';
import { readMark } from './limit-mark';
import { OwnChildren } from './own-children';
import { isRunning, readEnvironment, readStat, type PidStart, type ProcStat } from './proc-stat';
import { readKernelFile } from './read-kernel-file';
import { signalProcess } from './signal-process';
import { COOKIE_VARIABLE, Sweeper, WORKER_COOKIE_VARIABLE, type Sweep } from './sweep';

/** An orphan that bears no sign of any agent. */
export interface Escapee {
  readonly pid: number;
  readonly startTime: string;
  readonly command: string;
  /** False where the orphan may belong to other code: then it prevents proofs instead. */
  readonly killed: boolean;
}

/** A tree that is contained by descent. */
export interface HeldTree extends Ancestor {
  /** Whether an earlier pass found the process to belong to this tree. */
  knows(process: PidStart): boolean;
  /** Whether a cookie or a mark is this tree's. */
  bears(cookieOrMark: string): boolean;
  /** Whether a process at this path of /proc/PID/cgroup is in the tree's own cgroup. */
  isIn(cgroupPath: string): boolean;
  /** Takes this tree's processes from a pass. */
  absorb(sweep: Sweep): void;
}

/** A guardian as descent sees it. `starts` is present where the guardian starts the agents, and adopts their orphans. */
export interface GuardianAbove {
  readonly pid: number | undefined;
  readonly starts:
    | {
        /** Settles when all starts, or all reaps, that are under way have been answered; undefined when there are none. */
        settled(kind: 'start' | 'reap'): Promise<unknown> | undefined;
        /** Whether the pid is a first process whose end was not reported yet. */
        holds(pid: number): boolean;
        reap(pids: readonly number[]): void;
      }
    | undefined;
}

/** A host that contains its trees by descent. */
export interface DescentUser {
  /** Whether no other code in this process starts processes that may leave orphans. */
  readonly ownsProcess: boolean;
  /** The guardian starts the agents, and adopts their orphans before this process does. */
  readonly guardian: GuardianAbove;
  /** The cookie in the environment of every agent. */
  readonly cookie: string;
  onEscapee(escapee: Escapee): void;
}

/**
 * The verdict of one look at the direct children about a tree. `alive`: one of them may belong to it. `unsure`: one ended so lately
 * that it may have left us children since. `shared`: nothing tells to whom one of them belongs, and it may be the host
 * program's. Otherwise the grade of the proof that no process of the tree lives.
 */
export type Verdict = 'alive' | 'unsure' | 'shared' | 'kernel' | 'marks';

/** The detail of the evidence `descent-empty`. */
export const NO_DESCENDANT = 'no child of the worker belongs to the tree, and no descendant can leave it';
/** One proof takes this many looks at most; more than one only while processes end that may belong to the tree. */
const MOST_LOOKS = 4;

/** Other code in this process has this long to wait for a child that Belay did not start. Milliseconds. */
const FOREIGN_ZOMBIE_MS = 60_000;
/** At most this many reported escapees are remembered, until they are gone. */
const MAX_TOLD = 10_000;
/** Dead orphans are reaped this often, also while looks are rare. Milliseconds. */
const REAP_MS = 250;
/** Between two looks for orphans that are being killed. Milliseconds. */
const LONGEST_PAUSE_MS = 20;
/** One piece of that work blocks the event loop for at most this long. Milliseconds. */
const SLICE_MS = 4;

/** What a process bears of a tree. */
interface Signs {
  /** From its environment and its limits. */
  readonly cookies: readonly string[];
  readonly cgroup: string | undefined;
}

interface Child {
  readonly stat: ProcStat;
  /** The host whose guardian is the child's parent; undefined: it is this process's child. */
  readonly below: DescentUser | undefined;
  readonly dead: boolean;
  /** Whether it was dead in the previous look too. */
  readonly deadBefore: boolean;
  /** Read once a look: after many forks, reading them again for each tree took seconds. */
  signs?: Signs;
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
  readonly #users = new Set<DescentUser>();
  readonly #own = new OwnChildren();
  readonly lineage = new Lineage<HeldTree>();
  /** Looks at the descendants of this process only, not at all of /proc. */
  readonly sweeper = new Sweeper(
    COOKIE_VARIABLE,
    (sweep) => this.#passed(sweep),
    () => this.#walk(),
    (parent) => parent === process.pid || this.#guardianOf(parent) !== undefined,
  );
  /** The adopted children of the last look, by pid. */
  #children = new Map<number, Child>();
  #deadSince = new Map<string, number>();
  readonly #told = new Set<string>();
  /** Counts how often the last host left. */
  #term = 0;
  /** A look that has not begun. Callers until then share it. */
  #waiting: Promise<number> | undefined;
  /** Settles when the work under way ends: looks and reaps do not overlap. */
  #active: Promise<unknown> = Promise.resolve();
  /** The monotonic time at which dead orphans were last reaped. */
  #reapedAt = 0;
  #reapTimer: NodeJS.Timeout | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** @throws NativeError when this process cannot become a subreaper. */
  enter(user: DescentUser): void {
    if (this.#users.size === 0) {
      becomeSubreaper(this.#libc);
      const there = childrenOfUs().flatMap((pid) => readStat(pid) ?? []);
      // Such a child was adopted for an earlier host of this process, and no other code owns it.
      const adopted = (stat: ProcStat): boolean =>
        this.#children.get(stat.pid)?.stat.startTime === stat.startTime;
      this.#own.watch(there.filter((stat) => !adopted(stat)));
    }
    this.#users.add(user);
    this.#reapTimer ??= setInterval(() => void this.#reapSoon(), REAP_MS).unref();
  }

  leave(user: DescentUser): void {
    if (!this.#users.has(user)) return;
    if (this.#users.size === 1) this.#reapOwn();
    this.#users.delete(user);
    if (this.#users.size > 0) return;
    this.#term++;
    clearInterval(this.#reapTimer);
    this.#reapTimer = undefined;
    this.#own.unwatch();
    this.#deadSince.clear();
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
   * @returns whether none is left; false after `boundMs`.
   */
  async endUnknown(boundMs: number): Promise<boolean> {
    const giveUpAt = performance.now() + boundMs;
    // One look may read the list of children before a process that it finds dead has left its own to us.
    for (let calm = 0, pauseMs = 1; calm < 2; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      calm = (await this.look()) === 0 ? calm + 1 : 0;
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
    await this.#answered('reap');
    if (this.#users.size === 0) return 0;
    const term = this.#term;
    const own = this.#own.pids();
    const before = this.#children;
    this.#children = new Map();
    for (const [pid, below] of this.#directChildren()) {
      const stat = readStat(pid);
      // Between two turns nobody reaps an adopted child, so a missing one was libuv's.
      if (stat === undefined || (below === undefined && this.#isOwn(own, stat))) continue;
      const dead = !isRunning(stat);
      const was = before.get(pid);
      const deadBefore = dead && was?.dead === true && was.stat.startTime === stat.startTime;
      this.#children.set(pid, { stat, below, dead, deadBefore });
    }
    // An unknown child may be a first process whose start is not answered yet, and it may have ended already.
    if ([...this.#children.values()].some((child) => !this.#isHeld(child.stat.pid) && this.#isUnknown(child)))
      await this.#answered('start');
    // The hosts that asked are gone. This process may now have children of its own that nobody noted.
    if (term !== this.#term) return 0;
    let escapees = 0;
    for (const child of this.#children.values()) if (!child.dead && this.#judge(child)) escapees += 1;
    this.#reap([...this.#children.values()]);
    if (this.#told.size > MAX_TOLD) this.#told.clear();
    return escapees;
  }

  /** Waits for every request of that kind to the guardians. */
  async #answered(kind: 'start' | 'reap'): Promise<void> {
    const under = [...this.#users].flatMap(({ guardian }) => guardian.starts?.settled(kind) ?? []);
    if (under.length === 0) return;
    await Promise.all(under);
    // Until the requester has processed the answer.
    await nextTurn();
  }

  /** The guardians' children first: if a guardian dies meanwhile, its children are among ours by then. */
  *#directChildren(): Generator<[pid: number, below: DescentUser | undefined]> {
    const lists = [...this.#users].map((user): [DescentUser | undefined, number[]] => [
      user,
      childrenOfGuardian(user),
    ]);
    lists.push([undefined, childrenOfUs()]);
    for (const [below, pids] of lists) for (const pid of pids) yield [pid, below];
  }

  #guardianOf(pid: number): DescentUser | undefined {
    for (const user of this.#users) if (user.guardian.pid === pid) return user;
    return undefined;
  }

  #isOwn(own: ReadonlyMap<number, string | undefined>, { pid, startTime }: ProcStat): boolean {
    return own.has(pid) && (own.get(pid) ?? startTime) === startTime;
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
    for (const user of below === undefined ? this.#users : [below])
      user.onEscapee({ pid, startTime, command, killed });
    return killed;
  }

  /** An unknown orphan may be the host program's: it became this process's child, and other code starts processes here. */
  #mayBeHosts(stat: ProcStat, below: DescentUser | undefined): boolean {
    return below === undefined && !this.#isAlone() && !this.#bearsOurs(stat);
  }

  #isAlone(): boolean {
    return [...this.#users].every(({ ownsProcess }) => ownsProcess);
  }

  /** True for a process that a dead guardian had started, or a descendant of one. */
  #bearsOurs({ pid }: ProcStat): boolean {
    const cookies = readEnvironment(pid, WORKER_COOKIE_VARIABLE);
    return [...this.#users].some(({ cookie }) => cookies.includes(cookie));
  }

  /** Reaps adopted children. No other code waits for them, except, in a host program, code that this class cannot see. */
  #reap(children: readonly Child[]): void {
    const alone = this.#isAlone();
    const deadSince = new Map<string, number>();
    const theirs = new Map<DescentUser, number[]>();
    const now = performance.now();
    for (const child of children) {
      const { stat, below, dead } = child;
      if (!dead || this.#isHeld(stat.pid)) continue;
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
      const isOurs = alone || !this.#isUnknown(child) || isNamespaced(stat.pid);
      if (isOurs || now - since > FOREIGN_ZOMBIE_MS) reapChild(this.#libc, stat.pid);
    }
    this.#deadSince = deadSince;
    for (const [user, pids] of theirs) user.guardian.starts?.reap(pids);
    this.#reapedAt = performance.now();
  }

  /**
   * Reaps dead orphans between two looks. A look waits for a pass over the trees, and forks make that pass long: an agent that forks
   * and ends 1,000 times a second would take every pid of the machine meanwhile. The init of a PID namespace has not ended until
   * the orphans of that namespace are reaped, and after the death of a guardian those are this process's children.
   */
  async #reapSoon(): Promise<void> {
    if (performance.now() - this.#reapedAt < REAP_MS / 2) return;
    await this.#alone(async () => this.#reapOrphans()).catch(() => undefined);
  }

  /** The last time: nobody looks after this process's adopted children once the last host has left. */
  #reapOwn(): void {
    const own = this.#own.pids();
    const stats = childrenOfUs().flatMap((pid) => readStat(pid) ?? []);
    const adopted = stats.filter((stat) => !isRunning(stat) && !this.#isOwn(own, stat));
    this.#reap(adopted.map((stat) => ({ stat, below: undefined, dead: true, deadBefore: false })));
  }

  async #reapOrphans(): Promise<void> {
    // The kernel's list of children may lack some while others are removed from it.
    await this.#answered('reap');
    const found: Child[] = [];
    let sliceStart = performance.now();
    for (const [pid, below] of this.#directChildren()) {
      if (performance.now() - sliceStart > SLICE_MS) {
        await nextTurn();
        sliceStart = performance.now();
      }
      const stat = readStat(pid);
      if (stat !== undefined && !isRunning(stat)) found.push({ stat, below, dead: true, deadBefore: false });
    }
    // One of them may be a first process whose start was not answered when the lists were read.
    if (found.some(({ stat }) => !this.#isHeld(stat.pid))) await this.#answered('start');
    // Read last: libuv reaps its children between two turns, and their numbers are given away again.
    const own = this.#own.pids();
    this.#reap(found.filter(({ stat, below }) => below !== undefined || !this.#isOwn(own, stat)));
  }

  /** Whether the child is a first process: its end is reported before it is reaped. */
  #isHeld(pid: number): boolean {
    return [...this.#users].some(({ guardian }) => guardian.starts?.holds(pid) === true);
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
    const own = this.#own.pids();
    const leaders = new Set([...this.lineage.trees()].map(({ leader }) => leader.pid));
    const seen = new Set<number>();
    // A second round at the end: a process whose parent ended meanwhile has become our child.
    for (let round = 0; round < 2; round += 1) {
      const queue = [...this.#directChildren()].flatMap(([pid, below]) =>
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

/** Whether the process is in a PID namespace below this one. Such an adopted child is an agent's: no other code waits for it. */
function isNamespaced(pid: number): boolean {
  return /^NSpid:\t\d+\t\d/m.test(readKernelFile(`/proc/${pid}/status`) ?? '');
}

/** The kernel lists children under the thread that started them, and adopted ones under the first. */
function childrenOfUs(): number[] {
  return childrenOf({ pid: process.pid, threads: readdirSync('/proc/self/task').length });
}

/** The guardian has all its children under its first thread. */
function childrenOfGuardian({ guardian: { pid, starts } }: DescentUser): number[] {
  return pid === undefined || starts === undefined ? [] : childrenOf({ pid, threads: 1 });
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
