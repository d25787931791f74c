import type { OrderKind, Role, Scope, StopMode, StopReason } from '#libs/contracts';

/** A caller's request. The order that is made from it has an id, a place in the log and a time. */
export interface OrderRequest {
  /** Default `kill`. */
  readonly kind?: OrderKind;
  readonly scope: Scope;
  readonly mode?: StopMode;
  readonly graceMs?: number;
  readonly reason?: StopReason;
  readonly note?: string;
  /** Engage a latch for the scope in the same script. */
  readonly latch?: boolean;
  /** The number of people that the release of that latch needs. Absent: one. */
  readonly releaseNeeds?: number;
  readonly by: string;
  /** The role of the caller's token, and the HTTP request. */
  readonly role?: Role;
  readonly requestId?: string;
}
