import type { ChildProcess } from 'node:child_process';

/** Called at the end of a first process. From then on, and not before, its pid may be given to a stranger. */
export type ExitListener = (code: number | null, signal: NodeJS.Signals | null) => void;

/** The first process of an agent, as the process that waits for it reports its end. */
export interface FirstProcess {
  /** Takes one listener. It is also called for an end before this call. */
  onExit(listener: ExitListener): void;
}

/**
 * A child of this process, whose end libuv reports. Must be called in the turn of the event loop in which the child was
 * started.
 */
export function ownFirstProcess(child: ChildProcess): FirstProcess {
  child.on('error', () => {}); // Node's own kill() is never used; nothing else may end the worker
  return { onExit: (listener) => void child.once('exit', listener) };
}
