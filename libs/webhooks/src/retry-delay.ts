import type { WebhookRetry, WebhooksConfig } from './webhooks.types';

/** About 25 hours: 5 s, 10 s, 20 s, … and 4 h from the thirteenth wait on. */
export const DEFAULT_RETRY: WebhookRetry = {
  maxAttempts: 18,
  delayMs: 5_000,
  maxMs: 4 * 3_600_000,
  jitter: 0.2,
};

/** No endpoint is told of anything. */
export const NO_WEBHOOKS: WebhooksConfig = { endpoints: [], retry: DEFAULT_RETRY };

/** The wait after try number `attempt`, from 1. Milliseconds. */
export function retryDelay({ delayMs, maxMs, jitter }: WebhookRetry, attempt: number): number {
  // 2 ** 30 times the least delay is more than any maximum.
  const full = Math.min(delayMs * 2 ** Math.min(attempt - 1, 30), maxMs);
  return Math.round(full * (1 - jitter * Math.random()));
}
