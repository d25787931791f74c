/** A signal from outside, as the attempt that it woke gets it. */
export interface Signal {
  readonly name: string;
  readonly payload: unknown;
}

/** The request of an attempt that suspends its node (docs/suspend.md). */
export interface SuspendRequest {
  /** The name of the signal that wakes the node. */
  readonly name: string;
  /** After this the node fails. Milliseconds. */
  readonly maxAgeMs: number;
}

/** Bounds of a wait for a signal. Milliseconds. */
export const SUSPEND_LIMITS = {
  minAgeMs: 100,
  /** One year. */
  maxAgeMs: 365 * 24 * 3_600_000,
  /** Seven days. */
  defaultAgeMs: 7 * 24 * 3_600_000,
  /** Signals of one execution. */
  signals: 10_000,
} as const;

/** The answer to a signal. */
export interface Signalled {
  readonly executionId: string;
  readonly signal: string;
  /** The nodes that go on. */
  readonly woken: readonly string[];
  /** No node waited for the signal: it is kept for the first node that will. */
  readonly kept: boolean;
}
