import type { Ancestor } from './lineage';
import type { PidStart } from './proc-stat';
import type { Sweep } from './sweep';

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
