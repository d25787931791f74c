import type { SeenProcess } from '#libs/contracts';
import type { Containment } from './process-host.types';
import type { PidStart } from './proc-stat';
import type { StopRecord } from './stop-record';

/**
 * One agent's processes, in any containment. The ladder (end-tree.ts) decides when to act; a tree knows how. Every method that
 * signals checks the identity directly before (docs/process-signals.md#no-signal-to-a-foreign-process). Methods throw only when the system
 * refuses an answer (EMFILE and the like); the ladder takes that for "not known to be dead".
 */
export interface ProcessTree {
  readonly containment: Containment;
  /** The first process, leader of its session and group. */
  readonly leader: PidStart;
  /**
   * Called in the exit event of the first process: from then on its pid may be given to a stranger. `signal`: the one that ended it.
   */
  markReaped(signal?: NodeJS.Signals | null): void;
  /** Without waiting: SIGTERM to all processes within reach, then thaw and SIGCONT. */
  terminate(record: StopRecord): void;
  /** Without waiting: SIGKILL to all processes within reach. */
  kill(record: StopRecord): void;
  /** Looks for processes outside the group or cgroup, so that the next signals reach them too. */
  search(record: StopRecord): Promise<void>;
  /** SIGTERM and SIGCONT, once each, to the processes found since `terminate`. */
  terminateFound(record: StopRecord): void;
  /** A cheap sign, no proof: no known process of the tree is running. */
  quiet(): boolean;
  /** Looks as hard as its containment allows, and puts the evidence into the record. `deep` is for stops. */
  proveEmpty(record: StopRecord, deep: boolean): Promise<boolean>;
  /** Calls back when something may have changed. @returns a function that ends the watch. */
  onChange(callback: () => void): () => void;
  freeze(): Promise<void>;
  thaw(): void;
  /** The known processes that run now. */
  processes(): SeenProcess[];
  /** Removes the tree's resources on this machine. @returns false when a process is still inside. */
  dispose(): boolean | Promise<boolean>;
}

/** A process found by a look, in the form that reports use. */
export function toSeen(process: PidStart & { readonly command?: string }): SeenProcess {
  const { pid, startTime, command } = process;
  return { pid, startTime, ...(command === undefined ? {} : { command }) };
}
