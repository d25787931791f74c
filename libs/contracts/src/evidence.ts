/** How process trees are held together, best first (docs/process-signals.md). */
export const CONTAINMENTS = ['cgroup', 'descent', 'marks'] as const;
export type Containment = (typeof CONTAINMENTS)[number];

/**
 * What proves that a process tree is gone. `exit` is the exit event of the process we started; `cgroup-empty` is
 * `populated 0`; `descent-empty` is that no child of a worker from which nothing can leave is of the tree; `sweep-empty`
 * is two passes over /proc in a row without a process of the tree. `lease-expired`
 * is no proof: it stays `unconfirmed` (docs/process-signals.md).
 */
export type EvidenceKind =
  'exit' | 'cgroup-empty' | 'descent-empty' | 'sweep-empty' | 'not-started' | 'lease-expired';

/** What a proof rests on: the kernel, or marks that an agent could strip on purpose. */
export type Grade = 'kernel' | 'marks';

/** What a proof may rest on, strongest first. */
export const GRADES = ['kernel', 'marks'] as const satisfies readonly Grade[];

const BY_KERNEL: ReadonlySet<EvidenceKind> = new Set(['cgroup-empty', 'descent-empty', 'not-started']);

/** The grade of a report's proof; undefined where nothing is proved. */
export function gradeOf({ proved, evidence }: Pick<StopReport, 'proved' | 'evidence'>): Grade | undefined {
  if (!proved) return undefined;
  return evidence.some(({ kind }) => BY_KERNEL.has(kind)) ? 'kernel' : 'marks';
}

/** Undefined for none at all. */
export function lowestGrade(grades: readonly Grade[]): Grade | undefined {
  return grades.includes('marks') ? 'marks' : grades[0];
}

export interface Evidence {
  readonly kind: EvidenceKind;
  /** Milliseconds after the stop was asked of the worker, monotonic. */
  readonly afterMs: number;
  readonly detail?: string;
}

/** One process as it was seen: a pid alone names nothing, pid + start time + boot id name one process. */
export interface SeenProcess {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  readonly startTime: string;
  readonly command?: string;
}

export interface SentSignal {
  readonly signal: string;
  /** What it was sent to: the process group, the cgroup (`cgroup.kill`), or one process found by the sweep. */
  readonly to: 'group' | 'cgroup' | 'process';
  readonly pid?: number;
  /** Milliseconds after the stop was asked of the worker, monotonic. */
  readonly afterMs: number;
}

/** What the worker did and saw while it ended one process tree. */
export interface StopReport {
  readonly containment: Containment;
  /** True only when the whole tree was seen dead. */
  readonly proved: boolean;
  readonly processes: readonly SeenProcess[];
  readonly signals: readonly SentSignal[];
  readonly evidence: readonly Evidence[];
  /** Processes still alive when the stop gave up; empty when proved. */
  readonly survivors: readonly SeenProcess[];
  /** SIGKILL was needed. */
  readonly escalated: boolean;
  /** Milliseconds from asked to: first signal sent, first exit seen, proved dead. */
  readonly signalledAfterMs?: number;
  readonly firstExitAfterMs?: number;
  readonly provedAfterMs?: number;
}

/** How one agent's process ended, as the spawner saw it. */
export interface ExitReport {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Processes of the tree that outlived the first process and had to be ended. */
  readonly leftovers: number;
  /** Why the command could not be executed after all, where that showed only after the start. */
  readonly startError?: string;
  /** It was not executed, because the time in which it may start was over. */
  readonly startedTooLate?: true;
  readonly report: StopReport;
}
