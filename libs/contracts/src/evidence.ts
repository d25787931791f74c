import type { Isolation } from './isolation';

/** The ways to contain a process tree, best first (docs/process-signals.md). */
export const CONTAINMENTS = ['cgroup', 'namespace', 'descent', 'marks'] as const;
export type Containment = (typeof CONTAINMENTS)[number];

/**
 * The kinds of evidence that a process tree is gone. `exit`: the exit event of the first process. `cgroup-empty`: the cgroup
 * says `populated 0`; a process that moved out of it may live. `namespace-ended`: the init of the tree's PID namespace ended,
 * and the kernel ends every process of a namespace before its init has ended. `descent-empty`: no process can leave the worker,
 * and none of the worker's own children belongs to the tree. `uid-empty`: no process has the user that was the tree's alone. `sweep-empty`:
 * two passes over /proc in a row found no process of the tree. `lease-expired` is no proof: such a target stays `unconfirmed`
 * (docs/process-signals.md#evidence).
 */
export type EvidenceKind =
  | 'exit'
  | 'cgroup-empty'
  | 'namespace-ended'
  | 'descent-empty'
  | 'uid-empty'
  | 'sweep-empty'
  | 'not-started'
  | 'lease-expired';

/** The strength of a proof: it rests on the kernel, or on marks that an agent could strip on purpose. */
export type Grade = 'kernel' | 'marks';

/** The grades of proof, strongest first. */
export const GRADES = ['kernel', 'marks'] as const satisfies readonly Grade[];

/** Not `cgroup-empty`: a process that may write another cgroup leaves its own. */
const BY_KERNEL: ReadonlySet<EvidenceKind> = new Set([
  'namespace-ended',
  'descent-empty',
  'uid-empty',
  'not-started',
]);

/** The grade of a report's proof; undefined where nothing is proved. */
export function gradeOf({ proved, evidence }: Pick<StopReport, 'proved' | 'evidence'>): Grade | undefined {
  if (!proved) return undefined;
  return evidence.some(({ kind }) => BY_KERNEL.has(kind)) ? 'kernel' : 'marks';
}

/** The weakest of these grades; undefined where there are none. */
export function lowestGrade(grades: readonly Grade[]): Grade | undefined {
  return grades.includes('marks') ? 'marks' : grades[0];
}

export interface Evidence {
  readonly kind: EvidenceKind;
  /** Milliseconds after the stop was asked of the worker, monotonic; absent where another process saw it. */
  readonly afterMs?: number;
  readonly detail?: string;
}

/** One process as it was seen. Pids are reused, so only pid, start time and boot id together name a process. */
export interface SeenProcess {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  readonly startTime: string;
  readonly command?: string;
}

export interface SentSignal {
  readonly signal: string;
  /** The receiver: the process group, the cgroup (`cgroup.kill`), the PID namespace (by its init), or one process. */
  readonly to: 'group' | 'cgroup' | 'namespace' | 'process';
  readonly pid?: number;
  /** Milliseconds after the stop was asked of the worker, monotonic; absent where another process sent it. */
  readonly afterMs?: number;
}

/** The worker's report on ending one process tree: its signals and the evidence. */
export interface StopReport {
  readonly containment: Containment;
  /** How the agent was kept apart from Belay. Absent where another process than its worker reports, and in earlier releases. */
  readonly isolation?: Isolation;
  /** True only when the whole tree was seen dead. */
  readonly proved: boolean;
  readonly processes: readonly SeenProcess[];
  readonly signals: readonly SentSignal[];
  readonly evidence: readonly Evidence[];
  /** Processes still alive when the stop gave up; empty when proved. */
  readonly survivors: readonly SeenProcess[];
  /** True when SIGKILL was needed. */
  readonly escalated: boolean;
  /** Milliseconds from the request to the first signal, the first exit, the proof of death. */
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
  /** Why the command could not be executed, if that showed only after the start. */
  readonly startError?: string;
  /** The code of that error, if it is not SPAWN_FAILED: BAD_CWD, EACCES, ISOLATION, NAMESPACE. */
  readonly startErrorCode?: string;
  /** Present when the command was not executed, because the time for its start was over. */
  readonly startedTooLate?: true;
  readonly report: StopReport;
}
