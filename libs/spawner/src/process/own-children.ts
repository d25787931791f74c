import type { ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { PidStart } from './proc-stat';

/** Node tells of every ChildProcess that is made. */
const CHANNEL = 'child_process';

/**
 * The children that somebody in this process started and waits for. All other children were adopted. libuv reaps its own
 * by number, so one of those that was reaped by somebody else would never tell its exit.
 *
 * Not seen: children of worker threads, and those that native add-ons fork.
 */
export class OwnChildren {
  /** Their owners reap them. A running one is held by its handle, so its reference lives. */
  #made: WeakRef<ChildProcess>[] = [];
  #earlier: readonly PidStart[] = [];
  readonly #note = (message: unknown): void => {
    const { process: child } = message as { process: ChildProcess };
    this.#made.push(new WeakRef(child));
  };

  /** @param earlier the children there are already: their owners are not known. */
  watch(earlier: readonly PidStart[]): void {
    this.#earlier = earlier;
    subscribe(CHANNEL, this.#note);
  }

  unwatch(): void {
    unsubscribe(CHANNEL, this.#note);
    this.#made = [];
  }

  /** Pids of those that were not seen to end, each with its start time where it was there before `watch`. */
  pids(): Map<number, string | undefined> {
    const pids = new Map<number, string | undefined>();
    for (const { pid, startTime } of this.#earlier) pids.set(pid, startTime);
    this.#made = this.#made.filter((reference) => {
      const child = reference.deref();
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return false;
      if (child.pid !== undefined) pids.set(child.pid, undefined);
      return true;
    });
    return pids;
  }
}
