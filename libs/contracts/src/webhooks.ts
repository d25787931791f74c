/** One endpoint of webhooks, without its secret and without the path of its URL, which may be a secret too. */
export interface WebhookRecord {
  readonly name: string;
  /** The scheme, host and port of its URL. */
  readonly origin: string;
  /** Event types, or patterns such as `latch.*`. */
  readonly events: readonly string[];
  /** Deliveries that are not over: under way, or waiting for the next try. */
  readonly waiting: number;
  /** Deliveries that failed for good and are kept. */
  readonly failed: number;
  /** When the endpoint last took a delivery. The server's clock, milliseconds. */
  readonly lastSuccessAt?: number;
  readonly lastErrorAt?: number;
  /** The reason why a try failed, the newest. */
  readonly lastError?: string;
}

/** `waiting`: for its first try; `retrying`: for another one; `delivering`: a try is under way. */
export const DELIVERY_STATES = ['waiting', 'delivering', 'retrying', 'delivered', 'failed'] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** One message to one endpoint. */
export interface WebhookDelivery {
  /** The header `webhook-id`, the same in every try. */
  readonly id: string;
  readonly type: string;
  readonly state: DeliveryState;
  /** Tries that have ended. */
  readonly attempts: number;
  /** When it was stored. Milliseconds. */
  readonly createdAt: number;
  readonly endedAt?: number;
  /** The reason why the newest try failed. */
  readonly error?: string;
}
