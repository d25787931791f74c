import type { ChildProcess } from 'node:child_process';

/** Told of the end of a first process. By then, and not before, its pid may be given to a stranger. */
export type ExitListener = (code: number | null, signal: NodeJS.Signals | null) => void;

/** The first process of an agent, as whoever waits for it tells of its end. */
export interface FirstProcess {
  /** For one listener; also for an end that was there before it. */
  onExit(listener: ExitListener): void;
}

/** A child of this process, whose end libuv tells. To be called in the turn of the event loop in which it was started. */
export function ownFirstProcess(child: ChildProcess): FirstProcess {
  child.on('error', () => {}); // kill() of Node's is never used; nothing else may end the worker
  return { onExit: (listener) => void child.once('exit', listener) };
}
