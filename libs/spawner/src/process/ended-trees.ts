import type { ProcStat } from './proc-stat';
import { toSeen } from './process-tree';
import type { TreesEvidence } from './trees-evidence';
import type { Seen, Unproved } from './unproved';

/** The end of every process tree of one worker. */
export interface EndedTrees {
  /** No process of them is left, by each kind of `evidence`. */
  readonly proved: boolean;
  /** Processes that the first passes found alive. */
  readonly processes: readonly ProcStat[];
  /** `sweep-empty`: two passes in a row found nothing. */
  readonly evidence: readonly TreesEvidence[];
  /** Present where the end is not proved. */
  readonly unproved?: Unproved;
}

/** A reason names at most this many processes. */
const MAX_NAMES = 20;
/** Time alone says little on a machine that was suspended, so at least this many rounds are made. */
const LEAST_ROUNDS = 10;

export const seenAlive = (processes: readonly ProcStat[]): Seen => ({
  why: 'alive',
  processes: processes.slice(0, MAX_NAMES).map(toSeen),
});

export function seenError(error: unknown): Seen {
  const { code, message } = error as NodeJS.ErrnoException;
  return { why: 'error', code: code ?? message };
}

/** Bounds rounds of killing and looking: they end once the time is up and enough of them were made. */
export class Rounds {
  readonly #startedAt = performance.now();
  #made = 0;

  constructor(private readonly boundMs: number) {}

  /** Counts a round. @returns the reason of the last look once the bound is reached. */
  giveUp(seen: Seen): Unproved | undefined {
    this.#made += 1;
    const afterMs = performance.now() - this.#startedAt;
    if (afterMs <= this.boundMs || this.#made < LEAST_ROUNDS) return undefined;
    return { ...seen, rounds: this.#made, afterMs };
  }
}
