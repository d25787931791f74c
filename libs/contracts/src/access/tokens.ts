import type { Role } from './roles';

/** A named token as it is listed. The secret is in no record: only its hash is stored. */
export interface TokenRecord {
  readonly name: string;
  readonly role: Role;
  /** The labels of what it may see and touch; absent: everything. */
  readonly selector?: string;
  /** Valkey's clock. */
  readonly createdAt: number;
  /** The token that made it. */
  readonly createdBy: string;
  readonly expiresAt?: number;
  readonly revokedAt?: number;
  readonly revokedBy?: string;
  /** The last use, known to the minute. */
  readonly lastUsedAt?: number;
}

/** The answer to who made a token: the only place where the secret is ever shown. */
export interface CreatedToken {
  readonly token: TokenRecord;
  readonly secret: string;
  /** As in a receipt: false says that no replica had it in time. */
  readonly replicated?: boolean;
}

/** The answer to a revocation. */
export interface RevokedToken {
  readonly token: TokenRecord;
  /** It had been revoked before; nothing was changed. */
  readonly already: boolean;
  readonly replicated?: boolean;
}

/** The name of the token of `BELAY_TOKEN`, which is in no store. */
export const BOOTSTRAP_NAME = 'admin';

/** Names under which parts of Belay act: a token of such a name could not be told from them. */
export const RESERVED_TOKEN_NAMES: readonly string[] = [
  BOOTSTRAP_NAME,
  'api',
  'belay',
  'cancelOnDisconnect',
  'processor',
  'producer',
  'reaper',
];

/** The longest that a token may be valid from now; without a bound it does not expire. Milliseconds. */
export const MAX_TOKEN_LIFE_MS = 10 * 365 * 24 * 3_600_000;

/** More tokens than this at a time would be a list of people, which belongs elsewhere. */
export const MAX_TOKENS = 1_000;

const SECRET = /^belay_[A-Za-z0-9_-]{43}$/;

/** Whether a text can be the secret of a named token: what is not is refused without a look at the store. */
export const isTokenSecret = (text: string): boolean => SECRET.test(text);
