import type { Problem } from './errors';
import type { QuestionId, QuestionRecord } from './questions';
import type { RecordedError } from './records';
import type { AskRequest } from './spec-validation/validate-questions';

/*
 * Requests of an agent that need an answer go over a socket of its worker: the steps of a handler, whose result is stored
 * before the handler uses it, and questions to people. One JSON object a line; every answer has the `n` of its request.
 */

/** The name of the abstract socket, and the key of the attempt for it. */
export const SOCKET_VARIABLE = 'BELAY_SOCKET';
export const SOCKET_KEY_VARIABLE = 'BELAY_SOCKET_KEY';

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
  /** The attempt that ended while it executed the step. */
  readonly by?: string;
  readonly error?: RecordedError;
}

/** `ask` is answered once the question is stored, `await` once it is closed. */
export type QuestionRequest = { readonly n: number; readonly key: string } & (
  { readonly act: 'ask'; readonly ask: AskRequest } | { readonly act: 'await'; readonly id: QuestionId }
);

export interface QuestionAnswer {
  readonly n: number;
  readonly question?: QuestionRecord;
  readonly error?: RecordedError;
  /** Every fault of a refused question. */
  readonly problems?: readonly Problem[];
}
