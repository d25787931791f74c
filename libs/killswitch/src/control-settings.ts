import type { Valkey } from '#libs/valkey';

/** The log keeps this many orders. An open order has a record of its own, whatever happens to the log. */
const ORDERS_KEPT = 10_000;
const CONTROL_EVENTS_KEPT = 10_000;
const AUDIT_KEPT = 100_000;
/** Longer than a failover takes, so that some process still knows the orders that it lost. Milliseconds. */
const RECENT_MS = 60_000;

/** The fixed settings that every script of the control slot gets. */
export class ControlSettings {
  readonly text: string;
  /** A process keeps its own writes for this long, to store them again; never longer than the server does. Milliseconds. */
  readonly recentMs: number;

  constructor(valkey: Valkey, retentionMs: number) {
    this.recentMs = Math.min(RECENT_MS, retentionMs);
    this.text = JSON.stringify({
      channel: valkey.keys.eventsChannel,
      doorbell: valkey.keys.doorbellChannel,
      controlEvents: CONTROL_EVENTS_KEPT,
      ordersKept: ORDERS_KEPT,
      auditKept: AUDIT_KEPT,
      retentionMs,
    });
  }
}
