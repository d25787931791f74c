import type { Entity } from './states';

/**
 * One change, as it is appended to the stream and published. `seq` counts per execution without a gap; `id` is the stream's own
 * id, from which subscribers resume. `from` is absent on creation.
 */
export interface BelayEvent {
  readonly id: string;
  readonly seq: number;
  /** `execution.running`, `node.completed`, `agent.killed`, … : entity and the state entered, or a report's name. */
  readonly type: string;
  readonly entity: Entity | 'latch' | 'limits';
  readonly executionId?: string;
  readonly nodeId?: string;
  readonly agentId?: string;
  readonly workerId?: string;
  readonly from?: string;
  readonly to?: string;
  /** The server's clock, milliseconds. */
  readonly at: number;
  readonly attempt?: number;
  readonly reason?: string;
  readonly error?: { readonly code: string; readonly message: string };
  readonly data?: unknown;
}

/** Pub/sub channel with every event as JSON. Events here are hints for operators; the streams are the truth. */
export const EVENTS_CHANNEL = 'belay:events';
/** Pub/sub channel of the doorbell: each message names an order. A hint; the orders log is the truth. */
export const DOORBELL_CHANNEL = 'belay:doorbell';
