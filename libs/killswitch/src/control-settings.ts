import type { Valkey } from '#libs/valkey';

/** Orders kept in the log; an order still open is in its own record whatever happens to the log. */
const ORDERS_KEPT = 10_000;
const CONTROL_EVENTS_KEPT = 10_000;
const AUDIT_KEPT = 100_000;
/** Longer than a failover takes, so that what it lost is still known to somebody. Milliseconds. */
const RECENT_MS = 60_000;

/** The fixed settings every script under the control tag gets. */
export class ControlSettings {
  readonly text: string;
  /** How long a process keeps what it stored, to store it again; never longer than the server does. Milliseconds. */
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
