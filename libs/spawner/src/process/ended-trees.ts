import type { SeenProcess } from '#libs/contracts';
import type { ProcStat } from './proc-stat';
import { toSeen } from './process-tree';
import type { TreesEvidence } from './trees-evidence';

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

/**
 * Why the end of a worker's trees is not proved, by the last look. `alive`: these processes run. `populated`: the cgroup has
 * processes that no pass found. `unsound`: the pass cannot say that it missed none. `error`: the system would not tell.
 * `record`: the worker's record cannot be believed.
 */
export type Unproved = { readonly rounds: number; readonly afterMs: number } & Seen;

/** What one look saw that keeps a proof back. */
export type Seen =
  | { readonly why: 'alive'; readonly processes: readonly SeenProcess[] }
  | { readonly why: 'populated' }
  | { readonly why: 'unsound' }
  | { readonly why: 'error'; readonly code: string }
  | { readonly why: 'record'; readonly problem: string };

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

/** For a log and for people. */
export function describeUnproved(unproved: Unproved): string {
  const { rounds, afterMs } = unproved;
  return `${describeSeen(unproved)} (${rounds} rounds in ${Math.round(afterMs)} ms)`;
}

function describeSeen(seen: Seen): string {
  switch (seen.why) {
    case 'alive':
      return `alive: ${seen.processes.map(({ pid, command = '?' }) => `${pid} (${command})`).join(', ')}`;
    case 'populated':
      return 'the cgroup is populated, and no pass over /proc found by whom';
    case 'unsound':
      return 'processes came and went faster than a pass over /proc could read them';
    case 'error':
      return `the system would not tell: ${seen.code}`;
    case 'record':
      return seen.problem;
  }
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
