import type { ProcessTree } from './process-tree';

/** One agent's isolation, prepared before its start. */
export interface AgentIsolation {
  /** Program and arguments that stand before the shell which becomes the command. */
  readonly before: readonly string[];
  /** In the place of the worker's own variables; a spec's go before these. */
  readonly env: Readonly<Record<string, string>>;
  /** A file without which the command is not run. */
  readonly permit: string;
  /** Makes the file behind a descriptor the agent's own. */
  give(fd: number): void;
  /** The tree, with the evidence that this isolation gives. */
  wrap(inner: ProcessTree): ProcessTree;
  /** No process was started. */
  release(): Promise<void>;
}
