/** A signal from outside, as the attempt that it woke is given it. */
export interface Signal {
  readonly name: string;
  readonly payload: unknown;
}

/** What an attempt asks for when it parks its node (requirement R23). */
export interface SuspendRequest {
  /** Of the signal that wakes it. */
  readonly name: string;
  /** Then the node fails. Milliseconds. */
  readonly maxAgeMs: number;
}

/** Bounds of a wait for a signal. Milliseconds. */
export const SUSPEND_LIMITS = {
  minAgeMs: 100,
  /** A year. */
  maxAgeMs: 365 * 24 * 3_600_000,
  /** Seven days. */
  defaultAgeMs: 7 * 24 * 3_600_000,
  /** Signals that one execution is sent. */
  signals: 10_000,
} as const;

/** The answer to a signal. */
export interface Signalled {
  readonly executionId: string;
  readonly signal: string;
  /** Nodes that go on. */
  readonly woken: readonly string[];
  /** Nobody waited for it: it is kept for the first node that will. */
  readonly kept: boolean;
}
