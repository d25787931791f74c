import { existsSync, readdirSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { becomeSubreaper, leaveSubreaper, openLibc, reapChild, type Libc } from '../native';
import { childrenOf } from './descendants';
import { Lineage, type Ancestor } from './lineage';
import { readMark } from './limit-mark';
import { OwnChildren } from './own-children';
import { isRunning, readEnvironment, readStat, type PidStart, type ProcStat } from './proc-stat';
import { signalProcess } from './signal-process';
import { COOKIE_VARIABLE, Sweeper, type Sweep } from './sweep';

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
  /** Takes what concerns it out of a pass. */
  absorb(sweep: Sweep): void;
}

/** A host that holds its trees by descent. */
export interface DescentUser {
  /** Nobody else in this process starts processes that may leave orphans. */
  readonly ownsProcess: boolean;
  onEscapee(escapee: Escapee): void;
}

/**
 * What one look at our direct children says of a tree. `alive`: one may be of it. `unsure`: one ended so lately that it may
 * have handed us children since. Else the grade of the proof that none of it lives.
 */
export type Verdict = 'alive' | 'unsure' | 'kernel' | 'marks';

/** Who may wait for a child of ours that we did not start is given this long to do so. Milliseconds. */
const FOREIGN_ZOMBIE_MS = 60_000;
/** Escapees told of at most, until they are gone. */
const MAX_TOLD = 10_000;

interface Child {
  readonly stat: ProcStat;
  readonly dead: boolean;
  /** Dead in the look before this one too. */
  readonly deadBefore: boolean;
}

/**
 * Containment by descent. This process is a child subreaper: whoever of its descendants loses its parent becomes its
 * child, whatever it did to its environment, session or limits. So every living process of a tree has an ancestor among our
 * direct children, and the tree is empty when none of these is, or can be, of it.
 *
 * One for the whole process, whose children these are; every host of the process that uses descent shares it.
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
    // Its proofs are made by looks at our children; a pass is for who is to be signalled.
    1,
  );
  /** Adopted children of the last look, by pid. */
  #children = new Map<number, Child>();
  #deadSince = new Map<string, number>();
  readonly #told = new Set<string>();
  #looking: Promise<void> | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** @throws NativeError when this process cannot become a subreaper. */
  enter(user: DescentUser): void {
    if (this.#users.size === 0) {
      becomeSubreaper(this.#libc);
      const there = directChildren().flatMap((pid) => readStat(pid) ?? []);
      // Adopted for an earlier host of this process, and nobody else's since.
      const adopted = (stat: ProcStat): boolean =>
        this.#children.get(stat.pid)?.stat.startTime === stat.startTime;
      this.#own.watch(there.filter((stat) => !adopted(stat)));
    }
    this.#users.add(user);
  }

  leave(user: DescentUser): void {
    if (!this.#users.delete(user) || this.#users.size > 0) return;
    this.#own.unwatch();
    this.#deadSince.clear();
    this.#told.clear();
    leaveSubreaper(this.#libc);
  }

  /** A look at our direct children that begins after this call; one serves all who ask in one turn. Ends escapees. */
  look(): Promise<void> {
    this.#looking ??= new Promise((resolve, reject) => {
      setImmediate(() => {
        this.#looking = undefined;
        try {
          this.#look();
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
    return this.#looking;
  }

  /** By the last look. */
  verdict(tree: HeldTree): Verdict {
    let grade: Verdict = 'kernel';
    let isUnsure = false;
    for (const { stat, dead, deadBefore } of this.#children.values()) {
      if (deadBefore || Number(stat.startTime) < Number(tree.leader.startTime)) continue;
      const owner = this.lineage.ownerOf(stat);
      if (owner !== undefined && owner !== tree) continue;
      const marked = owner === undefined ? this.#markOwner(stat) : undefined;
      // It says itself whose it is, and could lie.
      if (marked !== undefined && marked !== tree) grade = 'marks';
      else if (dead) isUnsure = true;
      else return 'alive';
    }
    return isUnsure ? 'unsure' : grade;
  }

  #look(): void {
    const own = this.#own.pids();
    const before = this.#children;
    this.#children = new Map();
    for (const pid of directChildren()) {
      const stat = readStat(pid);
      // Between two of our turns nobody reaps an adopted child, so who is gone was libuv's.
      if (stat === undefined || this.#isOwn(own, stat)) continue;
      const dead = !isRunning(stat);
      const was = before.get(pid);
      const deadBefore = dead && was?.dead === true && was.stat.startTime === stat.startTime;
      this.#children.set(pid, { stat, dead, deadBefore });
    }
    for (const child of this.#children.values()) if (!child.dead) this.#judge(child.stat);
    this.#reap();
    if (this.#told.size > MAX_TOLD) this.#told.clear();
  }

  #isOwn(own: ReadonlyMap<number, string | undefined>, { pid, startTime }: ProcStat): boolean {
    return own.has(pid) && (own.get(pid) ?? startTime) === startTime;
  }

  /** An orphan that nobody knows is ended, where it can only be an agent's. */
  #judge(stat: ProcStat): void {
    if (this.lineage.ownerOf(stat) !== undefined || this.#markOwner(stat) !== undefined) return;
    const killed = [...this.#users].every(({ ownsProcess }) => ownsProcess);
    if (killed) signalProcess(stat, 'SIGKILL', this.#libc);
    const key = `${stat.pid}:${stat.startTime}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const { pid, startTime, command } = stat;
    for (const user of this.#users) user.onEscapee({ pid, startTime, command, killed });
  }

  /** Adopted children are waited for by nobody else, except, where we are guests, by what we cannot see. */
  #reap(): void {
    const alone = [...this.#users].every(({ ownsProcess }) => ownsProcess);
    const deadSince = new Map<string, number>();
    const now = performance.now();
    for (const { stat, dead } of this.#children.values()) {
      if (!dead) continue;
      const key = `${stat.pid}:${stat.startTime}`;
      const since = this.#deadSince.get(key) ?? now;
      deadSince.set(key, since);
      const isOurs = alone || this.lineage.ownerOf(stat) !== undefined || this.#markOwner(stat) !== undefined;
      if (isOurs || now - since > FOREIGN_ZOMBIE_MS) reapChild(this.#libc, stat.pid);
    }
    this.#deadSince = deadSince;
  }

  /** Whose cookie or mark it bears, or who knows it from an earlier pass. */
  #markOwner(stat: ProcStat): HeldTree | undefined {
    for (const tree of this.lineage.trees()) if (tree.knows(stat)) return tree;
    const cookies = [...readEnvironment(stat.pid, COOKIE_VARIABLE), ...readMark(stat.pid, 'agent')];
    if (cookies.length === 0) return undefined;
    for (const tree of this.lineage.trees()) if (cookies.some((cookie) => tree.bears(cookie))) return tree;
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
      const queue = directChildren().filter((pid) => leaders.has(pid) || !own.has(pid));
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
function directChildren(): number[] {
  return childrenOf({ pid: process.pid, threads: readdirSync('/proc/self/task').length });
}
