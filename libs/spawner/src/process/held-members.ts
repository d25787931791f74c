import type { Cgroup } from './cgroup';
import type { HeldTree } from './descent.types';
import { markOf } from './limit-mark';
import { findMembers } from './members';
import { findAlive, ticksSinceBoot, type PidStart, type ProcStat } from './proc-stat';
import type { Sweep } from './sweep';

/** The processes of one tree that passes found, and the signs by which they are recognised. */
export class HeldMembers implements HeldTree {
  /** All processes of the last pass but the leader, by pid. */
  known = new Map<number, ProcStat>();
  /** All processes of the last pass, as it saw them. */
  seen: readonly ProcStat[] = [];
  readonly #mark: string;
  #reapedAt: number | undefined;

  /** @param cgroup the tree's own, if it has one. */
  constructor(
    readonly leader: PidStart & { readonly command?: string },
    private readonly cookie: string,
    private readonly cgroup?: Cgroup,
  ) {
    this.#mark = markOf(cookie);
  }

  markReaped(): void {
    this.#reapedAt = ticksSinceBoot();
  }

  knows({ pid, startTime }: PidStart): boolean {
    return this.known.get(pid)?.startTime === startTime;
  }

  bears(cookieOrMark: string): boolean {
    return cookieOrMark === this.cookie || cookieOrMark === this.#mark;
  }

  isIn(cgroupPath: string): boolean {
    return this.cgroup?.holdsPath(cgroupPath) ?? false;
  }

  /**
   * A process joins a session by birth only, and the session's number stays reserved while a process of it lives (members.ts).
   */
  ownsSession({ session, startTime }: ProcStat): boolean {
    const isBefore = this.#reapedAt === undefined || Number(startTime) < this.#reapedAt;
    return session === this.leader.pid && isBefore;
  }

  absorb(sweep: Sweep): void {
    const known = new Map([...this.known].map(([pid, stat]) => [pid, stat.startTime]));
    const marks = { leader: this.leader, cookie: this.cookie, reapedAt: this.#reapedAt, known };
    // A pass sees every process that lives all through it, so a missing one is dead and forgotten.
    this.known = new Map();
    this.seen = findMembers(sweep, marks);
    for (const member of this.seen)
      if (member.pid !== this.leader.pid || member.startTime !== this.leader.startTime)
        this.known.set(member.pid, member);
  }

  forget(): void {
    this.known.clear();
    this.seen = [];
  }

  /** Whether no known process of the tree is running. */
  isQuiet(): boolean {
    if (findAlive(this.leader) !== undefined) return false;
    for (const stat of this.known.values()) if (findAlive(stat) !== undefined) return false;
    return true;
  }

  /** The live processes, with the leader. */
  alive(): ProcStat[] {
    return [this.leader, ...this.known.values()].flatMap((stat) => findAlive(stat) ?? []);
  }
}
