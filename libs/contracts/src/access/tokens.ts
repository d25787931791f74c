import type { RequestRate } from './rates';
import type { Role } from './roles';

/** A named token in a list. No record has the secret: only its hash is stored. */
export interface TokenRecord {
  readonly name: string;
  readonly role: Role;
  /** The labels of everything that it may see and touch; absent: everything. */
  readonly selector?: string;
  /** The bound on its requests; absent: that of `BELAY_HTTP_RATE`. */
  readonly rate?: RequestRate;
  /** The server's clock. */
  readonly createdAt: number;
  /** The name of the token that made it. */
  readonly createdBy: string;
  readonly expiresAt?: number;
  readonly revokedAt?: number;
  readonly revokedBy?: string;
  /** The last use, to the minute. */
  readonly lastUsedAt?: number;
}

/** The answer to the making of a token: the only place that shows the secret. */
export interface CreatedToken {
  readonly token: TokenRecord;
  readonly secret: string;
  /** As in a receipt: false says that no replica had it in time. */
  readonly replicated?: boolean;
}

/** The answer to a revocation. */
export interface RevokedToken {
  readonly token: TokenRecord;
  /** The token had been revoked before, and nothing was changed. */
  readonly already: boolean;
  readonly replicated?: boolean;
}

/** The name of the token of `BELAY_TOKEN`, which no store has. */
export const BOOTSTRAP_NAME = 'admin';

/** Names under which parts of Belay act: a token with such a name would look like them. */
export const RESERVED_TOKEN_NAMES: readonly string[] = [
  BOOTSTRAP_NAME,
  'api',
  'belay',
  'cancelOnDisconnect',
  'processor',
  'producer',
  'reaper',
];

/** The longest validity of a token, from now on; without a bound it does not expire. Milliseconds. */
export const MAX_TOKEN_LIFE_MS = 10 * 365 * 24 * 3_600_000;

/** At most this many tokens at a time. A list of people belongs elsewhere. */
export const MAX_TOKENS = 1_000;

const SECRET = /^belay_[A-Za-z0-9_-]{43}$/;

/** Whether a text can be the secret of a named token. Others are refused without a call to the store. */
export const isTokenSecret = (text: string): boolean => SECRET.test(text);
