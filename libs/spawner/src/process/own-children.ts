import type { ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { PidStart } from './proc-stat';

/** Node publishes every new ChildProcess on this channel. */
const CHANNEL = 'child_process';

/**
 * The children that some code in this process started and waits for. All other children were adopted. libuv reaps its children
 * by number, so it would never report the exit of one that other code reaped.
 *
 * Not seen: children of worker threads, and those that native add-ons fork.
 */
export class OwnChildren {
  /** Their owners reap them. The handle of a running one keeps its reference alive. */
  #made: WeakRef<ChildProcess>[] = [];
  #earlier: readonly PidStart[] = [];
  readonly #note = (message: unknown): void => {
    const { process: child } = message as { process: ChildProcess };
    this.#made.push(new WeakRef(child));
  };

  /** @param earlier the children that exist already: their owners are unknown. */
  watch(earlier: readonly PidStart[]): void {
    this.#earlier = earlier;
    subscribe(CHANNEL, this.#note);
  }

  unwatch(): void {
    unsubscribe(CHANNEL, this.#note);
    this.#made = [];
  }

  /** The pids of those that were not seen to end, each with its start time if it existed before `watch`. */
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
