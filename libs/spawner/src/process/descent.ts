import { existsSync, readdirSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { becomeSubreaper, leaveSubreaper, openLibc, reapChild, type Libc } from '../native';
import { childrenOf } from './descendants';
import { readCgroupPath } from './cgroup-locate';
import { Lineage, type Ancestor } from './lineage';
import { readMark } from './limit-mark';
import { OwnChildren } from './own-children';
import { isRunning, readEnvironment, readStat, type PidStart, type ProcStat } from './proc-stat';
import { signalProcess } from './signal-process';
import { COOKIE_VARIABLE, Sweeper, WORKER_COOKIE_VARIABLE, type Sweep } from './sweep';

/** An orphan that bears no sign of any agent. */
export interface Escapee {
  readonly pid: number;
  readonly startTime: string;
  readonly command: string;
  /** False where it may be somebody else's: then it stands in the way of proofs instead. */
  readonly killed: boolean;
}

/** A tree that is held by descent. */
export interface HeldTree extends Ancestor {
  /** Found to be of this tree by an earlier pass. */
  knows(process: PidStart): boolean;
  /** Whether a cookie or a mark is this tree's. */
  bears(cookieOrMark: string): boolean;
  /** Whether a process at this path of /proc/PID/cgroup is in the tree's own cgroup. */
  isIn(cgroupPath: string): boolean;
  /** Takes what concerns it out of a pass. */
  absorb(sweep: Sweep): void;
}

/** A guardian as descent sees it. `starts` is there where it starts the agents, and is given their orphans. */
export interface GuardianAbove {
  readonly pid: number | undefined;
  readonly starts:
    | {
        /** Settles when all starts, or all reaps, that are under way have been answered; undefined when there are none. */
        settled(kind: 'start' | 'reap'): Promise<unknown> | undefined;
        /** A first process whose end was not told yet. */
        holds(pid: number): boolean;
        reap(pids: readonly number[]): void;
      }
    | undefined;
}

/** A host that holds its trees by descent. */
export interface DescentUser {
  /** Nobody else in this process starts processes that may leave orphans. */
  readonly ownsProcess: boolean;
  /** It starts the agents, and is given their orphans before this process is. */
  readonly guardian: GuardianAbove;
  /** In the environment of every agent. */
  readonly cookie: string;
  onEscapee(escapee: Escapee): void;
}

/**
 * The verdict of one look at our direct children about a tree. `alive`: one may be of it. `unsure`: one ended so lately
 * that it may have handed us children since. `shared`: nothing tells whose the one is, and it may be the host program's
 * own. Else the grade of the proof that none of it lives.
 */
export type Verdict = 'alive' | 'unsure' | 'shared' | 'kernel' | 'marks';

/** The detail of the evidence `descent-empty`. */
export const NO_DESCENDANT = 'no child of the worker is of the tree, and no descendant can leave it';
/** Looks at our children for one proof; more are needed only while processes that may be of the tree end. */
const MOST_LOOKS = 4;

/** Code that may wait for a child we did not start is given this long to do so. Milliseconds. */
const FOREIGN_ZOMBIE_MS = 60_000;
/** Escapees told of at most, until they are gone. */
const MAX_TOLD = 10_000;

interface Child {
  readonly stat: ProcStat;
  /** The tree's user whose guardian is its parent; undefined: it is our child. */
  readonly below: DescentUser | undefined;
  readonly dead: boolean;
  /** Dead in the look before this one too. */
  readonly deadBefore: boolean;
}

/**
 * Containment by descent. The guardian, which starts the agents, is a child subreaper: whoever of its descendants loses its
 * parent becomes its child, whatever it did to its environment, session or limits. So is this process, above it: what a guardian
 * that dies has becomes ours. So every living process of a tree has an ancestor among the guardian's direct children and
 * ours, and the tree is empty when none of these is, or can be, of it.
 *
 * One for the whole process; every host of the process that uses descent shares it, with a guardian of its own.
 */
class Descent {
  readonly #libc: Libc;
  readonly #users = new Set<DescentUser>();
  readonly #own = new OwnChildren();
  readonly lineage = new Lineage<HeldTree>();
  /** Goes over our descendants only, not over all of /proc. */
  readonly sweeper = new Sweeper(
    COOKIE_VARIABLE,
    (sweep) => this.#passed(sweep),
    () => this.#walk(),
    (parent) => parent === process.pid || this.#guardianOf(parent) !== undefined,
  );
  /** Adopted children of the last look, by pid. */
  #children = new Map<number, Child>();
  #deadSince = new Map<string, number>();
  readonly #told = new Set<string>();
  /** Counts the times that the last host left. */
  #term = 0;
  /** A look that has not begun: whoever asks now shares it. */
  #waiting: Promise<number> | undefined;
  /** Settles when the look under way ends. */
  #active: Promise<unknown> | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** @throws NativeError when this process cannot become a subreaper. */
  enter(user: DescentUser): void {
    if (this.#users.size === 0) {
      becomeSubreaper(this.#libc);
      const there = childrenOfUs().flatMap((pid) => readStat(pid) ?? []);
      // Adopted for an earlier host of this process, and nobody else's since.
      const adopted = (stat: ProcStat): boolean =>
        this.#children.get(stat.pid)?.stat.startTime === stat.startTime;
      this.#own.watch(there.filter((stat) => !adopted(stat)));
    }
    this.#users.add(user);
  }

  leave(user: DescentUser): void {
    if (!this.#users.delete(user) || this.#users.size > 0) return;
    this.#term++;
    this.#own.unwatch();
    this.#deadSince.clear();
    this.#told.clear();
    leaveSubreaper(this.#libc);
  }

  /**
   * A look at the direct children that begins after this call; one serves all who ask in one turn. Ends escapees.
   * @returns how many ran and were sent SIGKILL: they may be of any tree, and may run for a moment yet.
   */
  look(): Promise<number> {
    this.#waiting ??= this.#begin();
    return this.#waiting;
  }

  async #begin(): Promise<number> {
    await this.#active;
    await nextTurn();
    this.#waiting = undefined;
    const look = this.#look();
    this.#active = look.catch(() => undefined);
    return look;
  }

  /** By as many looks as it takes to be sure, up to a bound. @param isQuiet nothing known of the tree is running. */
  async judgeTree(tree: HeldTree, isQuiet: () => boolean): Promise<Verdict> {
    for (let look = 1; look <= MOST_LOOKS; look += 1) {
      await this.look();
      const verdict = isQuiet() ? this.verdict(tree) : 'alive';
      if (verdict !== 'unsure') return verdict;
    }
    return 'unsure';
  }

  /** By the last look. */
  verdict(tree: HeldTree): Verdict {
    let grade: Verdict = 'kernel';
    let isUnsure = false;
    let isShared = false;
    for (const { stat, below, dead, deadBefore } of this.#children.values()) {
      if (deadBefore || Number(stat.startTime) < Number(tree.leader.startTime)) continue;
      const owner = this.lineage.ownerOf(stat);
      if (owner !== undefined && owner !== tree) continue;
      const marked = owner === undefined ? this.#markOwner(stat) : undefined;
      // It says itself whose it is, and could lie.
      if (marked !== undefined && marked !== tree) grade = 'marks';
      else if (dead) isUnsure = true;
      else if (owner === undefined && marked === undefined && this.#mayBeHosts(stat, below)) isShared = true;
      else return 'alive';
    }
    return isUnsure ? 'unsure' : isShared ? 'shared' : grade;
  }

  async #look(): Promise<number> {
    // The kernel's list of children may leave some out while others are taken off it.
    await this.#answered('reap');
    if (this.#users.size === 0) return 0;
    const term = this.#term;
    const own = this.#own.pids();
    const before = this.#children;
    this.#children = new Map();
    for (const [pid, below] of this.#directChildren()) {
      const stat = readStat(pid);
      // Between two of our turns nobody reaps an adopted child, so who is gone was libuv's.
      if (stat === undefined || (below === undefined && this.#isOwn(own, stat))) continue;
      const dead = !isRunning(stat);
      const was = before.get(pid);
      const deadBefore = dead && was?.dead === true && was.stat.startTime === stat.startTime;
      this.#children.set(pid, { stat, below, dead, deadBefore });
    }
    // One that nobody knows may be a first process whose start is not answered yet; it may have ended already.
    if ([...this.#children.values()].some(({ stat }) => !this.#isHeld(stat.pid) && this.#isUnknown(stat)))
      await this.#answered('start');
    // The hosts are gone that these were looked at for. This process may have children of its own now, which nobody noted.
    if (term !== this.#term) return 0;
    let escapees = 0;
    for (const child of this.#children.values()) if (!child.dead && this.#judge(child)) escapees += 1;
    this.#reap();
    if (this.#told.size > MAX_TOLD) this.#told.clear();
    return escapees;
  }

  /** Waits for every request of that kind to the guardians. */
  async #answered(kind: 'start' | 'reap'): Promise<void> {
    const under = [...this.#users].flatMap(({ guardian }) => guardian.starts?.settled(kind) ?? []);
    if (under.length === 0) return;
    await Promise.all(under);
    // Until whoever asked has taken note of the answer.
    await nextTurn();
  }

  /** The guardians' first: what one that dies meanwhile had is among ours by then. */
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

  #isUnknown(stat: ProcStat): boolean {
    return this.lineage.ownerOf(stat) === undefined && this.#markOwner(stat) === undefined;
  }

  /** An orphan that nobody knows is ended, where it can only be an agent's. @returns whether it is. */
  #judge({ stat, below }: Child): boolean {
    if (!this.#isUnknown(stat)) return false;
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

  /** An orphan that nobody knows may be the host program's own: it came to this process, and others start processes here. */
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

  /** Adopted children are waited for by nobody else, except, where we are guests, by what we cannot see. */
  #reap(): void {
    const alone = this.#isAlone();
    const deadSince = new Map<string, number>();
    const theirs = new Map<DescentUser, number[]>();
    const now = performance.now();
    for (const { stat, below, dead } of this.#children.values()) {
      if (!dead || this.#isHeld(stat.pid)) continue;
      if (below !== undefined) {
        const pids = theirs.get(below);
        // A copy for each took seconds where forks had left 30,000 of them.
        if (pids === undefined) theirs.set(below, [stat.pid]);
        else pids.push(stat.pid);
        continue;
      }
      const key = `${stat.pid}:${stat.startTime}`;
      const since = this.#deadSince.get(key) ?? now;
      deadSince.set(key, since);
      const isOurs = alone || !this.#isUnknown(stat);
      if (isOurs || now - since > FOREIGN_ZOMBIE_MS) reapChild(this.#libc, stat.pid);
    }
    this.#deadSince = deadSince;
    for (const [user, pids] of theirs) user.guardian.starts?.reap(pids);
  }

  /** A first process: its end is told before it is reaped. */
  #isHeld(pid: number): boolean {
    return [...this.#users].some(({ guardian }) => guardian.starts?.holds(pid) === true);
  }

  /** The tree whose cookie or mark it bears, in whose cgroup it is, or that knows it from an earlier pass. */
  #markOwner(stat: ProcStat): HeldTree | undefined {
    for (const tree of this.lineage.trees()) if (tree.knows(stat)) return tree;
    const cookies = [...readEnvironment(stat.pid, COOKIE_VARIABLE), ...readMark(stat.pid, 'agent')];
    for (const tree of this.lineage.trees()) if (cookies.some((cookie) => tree.bears(cookie))) return tree;
    const cgroup = readCgroupPath(stat.pid);
    if (cgroup !== undefined) for (const tree of this.lineage.trees()) if (tree.isIn(cgroup)) return tree;
    return undefined;
  }

  #passed(sweep: Sweep): void {
    this.lineage.absorb(sweep);
    for (const tree of this.lineage.trees()) tree.absorb(sweep);
  }

  /** Every process that descends from this one, save what is started for other purposes than agents. */
  *#walk(): Generator<number> {
    const own = this.#own.pids();
    const leaders = new Set([...this.lineage.trees()].map(({ leader }) => leader.pid));
    const seen = new Set<number>();
    // Once more at the end: whose parent ended meanwhile has come to us.
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

/** The one of this process. @throws Error where `descentMissing` says why not. */
export function theDescent(libc: Libc): Descent {
  descent ??= new Descent(libc);
  return descent;
}

/** Why trees cannot be held by descent here; undefined when they can. */
export function descentMissing(native: 'auto' | 'off' | undefined): string | undefined {
  if (native === 'off') return 'BELAY_NATIVE is off';
  if (!isMainThread) return 'a worker thread cannot tell its children from those of other threads';
  const found = openLibc();
  if ('reason' in found) return found.reason;
  if (!existsSync(`/proc/self/task/${process.pid}/children`))
    return 'the kernel has no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN)';
  return undefined;
}

/** They hang on the thread that started them; adopted ones on the first. */
function childrenOfUs(): number[] {
  return childrenOf({ pid: process.pid, threads: readdirSync('/proc/self/task').length });
}

/** All of them hang on its first thread. */
function childrenOfGuardian({ guardian: { pid, starts } }: DescentUser): number[] {
  return pid === undefined || starts === undefined ? [] : childrenOf({ pid, threads: 1 });
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
