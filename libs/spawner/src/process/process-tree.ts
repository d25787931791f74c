import type { SeenProcess } from '#libs/contracts';
import type { Containment } from './process-host.types';
import type { PidStart } from './proc-stat';
import type { StopRecord } from './stop-record';

/**
 * One agent's processes, whichever way they are held together. The ladder (end-tree.ts) decides when; a tree knows how.
 * Every method that signals checks identity directly before (requirement R21). Methods throw only what the system refuses to
 * tell (EMFILE and the like); the ladder takes that for "not known to be dead".
 */
export interface ProcessTree {
  readonly containment: Containment;
  /** First process, leader of its session and group. */
  readonly leader: PidStart;
  /** To be called in the exit event of the first process: from then on its pid may be given to a stranger. */
  markReaped(): void;
  /** At once, without waiting: SIGTERM to all within reach, then thaw and SIGCONT. */
  terminate(record: StopRecord): void;
  /** At once: SIGKILL to all within reach. */
  kill(record: StopRecord): void;
  /** Looks for processes that the group or cgroup does not hold, so that the next signals reach them too. */
  search(record: StopRecord): Promise<void>;
  /** SIGTERM and SIGCONT, once each, to those found since `terminate`. */
  terminateFound(record: StopRecord): void;
  /** Cheap sign, no proof: nothing known of the tree is running. */
  quiet(): boolean;
  /** Looks as hard as its containment can and puts the evidence into the record. `deep` is for stops. */
  proveEmpty(record: StopRecord, deep: boolean): Promise<boolean>;
  /** Calls back when something may have changed. @returns what ends it. */
  onChange(callback: () => void): () => void;
  freeze(): Promise<void>;
  thaw(): void;
  /** The processes known to run now. */
  processes(): SeenProcess[];
  /** Removes what the tree holds on this machine (requirement R54). @returns false when something is still inside. */
  dispose(): boolean | Promise<boolean>;
}

/** A report's form of what a look found. */
export function toSeen(process: PidStart & { readonly command?: string }): SeenProcess {
  const { pid, startTime, command } = process;
  return { pid, startTime, ...(command === undefined ? {} : { command }) };
}
