import type { RecordedError } from './records';

/*
 * A handler's steps go over a socket of its worker, as their answers must come back: a step's result is stored before the handler
 * uses it. One JSON object a line.
 */

/** The name of the abstract socket, and the attempt's key to it. */
export const STEPS_VARIABLE = 'BELAY_STEPS';
export const STEPS_KEY_VARIABLE = 'BELAY_STEPS_KEY';

/** Steps that one attempt may begin. */
export const MAX_STEPS = 1_000;
/** Characters of a step's name. */
export const MAX_STEP_NAME = 128;

export interface StepRequest {
  readonly n: number;
  readonly key: string;
  readonly name: string;
  readonly act: 'begin' | 'done';
  readonly isIdempotent?: boolean;
  readonly result?: unknown;
}

export interface StepAnswer {
  readonly n: number;
  readonly state?: 'begun' | 'done' | 'undecided';
  readonly result?: unknown;
  /** The attempt that was executing it as that attempt ended. */
  readonly by?: string;
  readonly error?: RecordedError;
}
