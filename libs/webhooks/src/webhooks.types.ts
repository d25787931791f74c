import type { KeyObject } from 'node:crypto';

/** The retries of a delivery, in the words of a spec's `backoff`. */
export interface WebhookRetry {
  readonly maxAttempts: number;
  /** The wait after the first try; it doubles with every further one. Milliseconds. */
  readonly delayMs: number;
  readonly maxMs: number;
  /** The part of a wait, from 0 to 1, that is left to chance. */
  readonly jitter: number;
}

/** An endpoint of the file, checked, with its secrets read. */
export interface Endpoint {
  readonly name: string;
  readonly url: URL;
  readonly events: readonly string[];
  /** One secret, or two while one replaces the other. A `KeyObject` is printed without its key. */
  readonly keys: readonly KeyObject[];
}

export interface WebhooksConfig {
  readonly endpoints: readonly Endpoint[];
  readonly retry: WebhookRetry;
}
