import { BelayError } from '#libs/contracts';
import type { Libc } from '../native';
import { findAlive, type PidStart, type ProcStat } from './proc-stat';
import { signalProcess } from './signal-process';

/** A stopped process takes effect when it is next scheduled, which a busy machine delays. Milliseconds. */
export const FREEZE_WAIT_MS = 5_000;
const LONGEST_ROUND_MS = 20;

/** Stops processes one by one with SIGSTOP, and remembers which ones to continue. */
export class Halt {
  /** By pid. */
  readonly #stopped = new Map<number, PidStart>();

  constructor(private readonly libc: Libc | undefined) {}

  /**
   * Sends SIGSTOP to all processes that do not stand still.
   * @param seen the processes of a pass that ended before this call.
   * @returns whether the pass saw each stopped, and each is so now. One that ran and has ended since may have left a
   *   child that the pass did not see.
   */
  holds(seen: Iterable<ProcStat>): boolean {
    let areStill = true;
    for (const process of seen) {
      const now = findAlive(process);
      if (this.#isStill(process) && (now === undefined || this.#isStill(now))) continue;
      areStill = false;
      if (now === undefined || !signalProcess(now, 'SIGSTOP', this.libc)) continue;
      this.#stopped.set(now.pid, { pid: now.pid, startTime: now.startTime });
    }
    return areStill;
  }

  /** SIGCONT to all processes that were sent SIGSTOP. */
  release(): void {
    for (const process of this.#stopped.values()) signalProcess(process, 'SIGCONT', this.libc);
    this.#stopped.clear();
  }

  /**
   * Stopped, or certain to stop before its next instruction: in state D (a shell that waits for its stopped vfork child, for
   * example) a sent SIGSTOP is pending.
   */
  #isStill({ pid, startTime, state }: ProcStat): boolean {
    if (state === 'T' || state === 't') return true;
    return state === 'D' && this.#stopped.get(pid)?.startTime === startTime;
  }
}

/**
 * Calls `round` until it reports that all processes stand still, or that it no longer matters.
 * @throws TIMEOUT with the message and the details that `missed` gives.
 */
export async function untilStill(
  round: () => Promise<boolean>,
  missed: () => { message: string; details?: Record<string, unknown> },
): Promise<void> {
  const deadline = performance.now() + FREEZE_WAIT_MS;
  for (let roundMs = 1; !(await round()); roundMs = Math.min(roundMs * 2, LONGEST_ROUND_MS)) {
    if (performance.now() > deadline) {
      const { message, details } = missed();
      throw new BelayError('TIMEOUT', message, { details: { waitedMs: FREEZE_WAIT_MS, ...details } });
    }
    await new Promise((resolve) => setTimeout(resolve, roundMs));
  }
}
