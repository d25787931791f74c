import type { ProcessTree } from './process-tree';

/** One agent's isolation, prepared before its start. */
export interface AgentIsolation {
  /** The program and arguments in front of the shell that becomes the command. */
  readonly before: readonly string[];
  /** In place of the worker's own variables; a spec's variables override these. */
  readonly env: Readonly<Record<string, string>>;
  /** A file without which the command is not run. */
  readonly permit: string;
  /** Makes the agent the owner of the file behind a descriptor. */
  give(fd: number): void;
  /** The tree, with the evidence that this isolation adds. */
  wrap(inner: ProcessTree): ProcessTree;
  /** Gives the isolation back when no process was started. */
  release(): Promise<void>;
}
