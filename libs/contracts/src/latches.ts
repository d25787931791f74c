import type { Role } from './access/roles';
import { BelayError } from './errors';
import type { LatchId, OrderId } from './ids';
import { scopeKey, type Scope } from './scope';
import type { Requirement, ScopeWarning } from './selector';

/** The first of two people said that the latch may be released. */
export interface ReleaseApproval {
  /** The name of the token. */
  readonly by: string;
  readonly role?: Role;
  readonly requestId?: string;
  /** Why it may be released. */
  readonly note: string;
  /** The server's clock. */
  readonly at: number;
  /** From then on it does not count any more. */
  readonly expiresAt: number;
}

/** The number of people that a release may need. */
export const MOST_RELEASERS = 2;

/** An approval counts for this long. Milliseconds. */
export const APPROVAL_MS = 15 * 60_000;

/** The answer to the release of a latch that another person has to release, too. */
export interface PendingRelease {
  /** The number of further people. */
  readonly needs: number;
  /** The name of the token that has approved; another one is needed. */
  readonly approvedBy: string;
  readonly expiresAt: number;
}

/**
 * A block on new starts in a scope, until it is released (docs/killswitch.md#latches-and-pauses-are-different-things). `latch`:
 * engaged by a person or with a kill; a submit in its scope is refused. `freeze`: agents in its scope stand still; a submit is
 * accepted and waits. `pause`: of one pool's queue; running agents go on, and a submit is accepted and waits.
 */
export interface Latch {
  readonly id: LatchId;
  readonly kind: 'latch' | 'freeze' | 'pause';
  readonly scope: Scope;
  /** A selector's conditions, parsed, for the claim script. */
  readonly requires?: readonly Requirement[];
  /** The order that engaged it, if any. */
  readonly orderId?: OrderId;
  readonly note?: string;
  readonly by: string;
  /** The role of the caller's token, and the HTTP request; absent for Belay's own latches. */
  readonly role?: Role;
  readonly requestId?: string;
  /** The number of different people that its release needs. Absent: one. */
  readonly releaseNeeds?: number;
  /** The first of two releases. After the second it stays in the record. It may have expired. */
  readonly approval?: ReleaseApproval;
  /** The server's clock. */
  readonly engagedAt: number;
  /** Only in the answer to the engaging request; as in a receipt. */
  readonly replicated?: boolean;
  /** Only in the answer to the engaging request, for a selector that matched nothing. */
  readonly warning?: ScopeWarning;
  readonly releasedAt?: number;
  readonly releasedBy?: string;
  /** Why it was released. */
  readonly releaseNote?: string;
  /** Of a released freeze: the order that thaws its agents. */
  readonly thawOrderId?: OrderId;
}

/** At most this many: every claim looks at all of them, and more would come from a faulty program. */
export const MAX_LATCHES = 200;

/** A shard's copy of all engaged latches. A copy with a lower version never replaces one with a higher version. */
export interface LatchSet {
  readonly version: number;
  readonly items: readonly Latch[];
}

/** A latch as a refusal names it. */
export type LatchRefusal = Pick<Latch, 'kind' | 'scope' | 'by' | 'note'> & { readonly latchId: LatchId };

/** The error of a request that a latch covers. HTTP 423. */
export function latchedError({ latchId, kind, scope, by, note }: LatchRefusal): BelayError {
  const why = note === undefined ? '' : `: "${note}"`;
  const way = kind === 'freeze' ? `belay thaw ${latchId}` : `belay release ${latchId} --note "why"`;
  return new BelayError(
    'LATCHED',
    `The ${kind} ${latchId} covers ${scopeKey(scope).replace('/', ' ')} (by ${by}${why}): nothing in its scope starts until: ${way}`,
    { details: { latchId, kind, scope, by, ...(note === undefined ? {} : { note }) } },
  );
}
