import type { ProcStat } from './proc-stat';
import { toSeen } from './process-tree';
import type { TreesEvidence } from './trees-evidence';
import type { Seen, Unproved } from './unproved';

/** The end of every process tree of one worker. */
export interface EndedTrees {
  /** Nothing of them is left, by each kind of `evidence`. */
  readonly proved: boolean;
  /** Processes found alive by the first passes. */
  readonly processes: readonly ProcStat[];
  /** `sweep-empty`: two passes in a row found nothing. */
  readonly evidence: readonly TreesEvidence[];
  /** Present where it is not proved. */
  readonly unproved?: Unproved;
}

/** A reason names no more of them. */
const MAX_NAMES = 20;
/** A time that is over says little of a machine that stood still: so many rounds are made all the same. */
const LEAST_ROUNDS = 10;

export const seenAlive = (processes: readonly ProcStat[]): Seen => ({
  why: 'alive',
  processes: processes.slice(0, MAX_NAMES).map(toSeen),
});

export function seenError(error: unknown): Seen {
  const { code, message } = error as NodeJS.ErrnoException;
  return { why: 'error', code: code ?? message };
}

/** Bounds rounds of killing and looking: over once the time is up and enough of them were made. */
export class Rounds {
  readonly #startedAt = performance.now();
  #made = 0;

  constructor(private readonly boundMs: number) {}

  /** One more was made. @returns the reason of the last look once the bound is reached. */
  giveUp(seen: Seen): Unproved | undefined {
    this.#made += 1;
    const afterMs = performance.now() - this.#startedAt;
    if (afterMs <= this.boundMs || this.#made < LEAST_ROUNDS) return undefined;
    return { ...seen, rounds: this.#made, afterMs };
  }
}
