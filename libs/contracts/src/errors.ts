/** Every code of Belay's errors, with its HTTP status. Codes never change meaning. */
export const ERROR_STATUS = {
  INVALID_SPEC: 400,
  INVALID_REQUEST: 400,
  INVALID_JSON: 400,
  INVALID_SETTINGS: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  INVALID_TRANSITION: 409,
  IDEMPOTENCY_CONFLICT: 409,
  VERSION_CONFLICT: 409,
  STALE_EPOCH: 409,
  NOT_ENDED: 409,
  NOT_PROVED: 409,
  ORDER_OPEN: 409,
  BUDGET_SPENT: 409,
  PAYLOAD_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  LATCHED: 423,
  TOO_MANY_LATCHES: 409,
  TOKEN_EXISTS: 409,
  TOO_MANY_TOKENS: 409,
  QUESTION_CLOSED: 409,
  QUESTION_CHANGED: 409,
  TOO_MANY_QUESTIONS: 409,
  TOO_MANY_SIGNALS: 409,
  RATE_LIMITED: 429,
  LIMITED: 429,
  INTERNAL: 500,
  CORRUPT_RECORD: 500,
  DRAINING: 503,
  SERVER_UNREACHABLE: 503,
  SERVER_REFUSED: 503,
  OUTCOME_UNKNOWN: 503,
  TIMEOUT: 504,
  SPAWN_FAILED: 500,
  SHARD_MISMATCH: 500,
  SERVER_FULL: 507,
} as const;

export type ErrorCode = keyof typeof ERROR_STATUS;

/** One fault in a request or a file: its place, its rule, and a sentence that says what to do. */
export interface Problem {
  /** A JSON path such as `nodes[3].dependsOn[0]`; empty for the whole document. */
  readonly path: string;
  /** A stable upper-case code such as `UNKNOWN_FIELD`. */
  readonly code: string;
  /** A sentence for people. It ends with a correct form. */
  readonly message: string;
}

export interface BelayErrorOptions {
  readonly cause?: unknown;
  readonly problems?: readonly Problem[];
  readonly details?: Readonly<Record<string, unknown>>;
}

const BRAND = Symbol.for('belay.error');

/**
 * The base of every error that Belay raises on purpose: a stable code, a sentence that says what to do, the cause, and every
 * problem at once where there are several.
 */
export class BelayError extends Error {
  readonly code: ErrorCode;
  readonly problems: readonly Problem[];
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: BelayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.problems = options.problems ?? [];
    this.details = options.details ?? {};
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/** Whether `error` is Belay's own, also across two copies of this library. */
export function isBelayError(error: unknown): error is BelayError {
  return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[BRAND] === true;
}

/** A transition that is not in the state table. HTTP 409. */
export class InvalidTransitionError extends BelayError {
  constructor(
    readonly entity: string,
    readonly id: string,
    readonly from: string,
    readonly to: string,
    readonly allowed: readonly string[],
  ) {
    const choices =
      allowed.length === 0 ? `${from} is final` : `from ${from} it can become ${allowed.join(', ')}`;
    super('INVALID_TRANSITION', `${entity} ${id} cannot go from ${from} to ${to}: ${choices}.`, {
      details: { entity, id, from, to, allowed },
    });
  }
}

const LISTED: Record<string, string> = {
  worker: 'List them with: belay workers',
  latch: 'List the engaged ones with: belay latches',
  agent: "List an execution's agents with: belay get EXECUTION",
  order: 'List them with: belay audit',
  token: 'List them with: belay token list',
  question: 'List the open ones with: belay asks',
  webhook: 'List them with: belay webhooks',
};

/** There is no record with that id. HTTP 404. */
export class NotFoundError extends BelayError {
  constructor(
    readonly entity: string,
    readonly id: string,
  ) {
    super('NOT_FOUND', `No ${entity} ${id}. ${LISTED[entity] ?? 'List them with: belay ps --all'}`, {
      details: { entity, id },
    });
  }
}

/** A page was asked for with a cursor that no page has answered. HTTP 400. */
export class UnknownCursorError extends BelayError {
  constructor() {
    super('INVALID_REQUEST', 'The cursor is not from this list.', {
      problems: [{ path: 'cursor', code: 'PATTERN', message: 'must be the nextCursor of the page before.' }],
    });
  }
}

/** The writer's epoch, owner or version is no longer the record's: another process owns it now. */
export class StaleEpochError extends BelayError {
  constructor(entity: string, id: string, details: Readonly<Record<string, unknown>> = {}) {
    super('STALE_EPOCH', `${entity} ${id} is no longer owned by this writer; its write was refused.`, {
      details: { entity, id, ...details },
    });
  }
}

/** The request is invalid; every fault is in `problems`. HTTP 400, nothing stored. */
export class InvalidSpecError extends BelayError {
  constructor(problems: readonly Problem[]) {
    const head = problems[0];
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
    const where = head === undefined || head.path === '' ? '' : `${head.path}: `;
    super(
      'INVALID_SPEC',
      `The execution spec is not valid: ${where}${head?.message ?? 'it is empty.'}${more}`,
      {
        problems,
      },
    );
  }
}

/**
 * The call may or may not have run, since its reply was lost. A repeat is safe, because every script can be repeated.
 * `refusal`: the word with which the server refused at last (`READONLY`); an earlier try may have run all the same.
 */
export class OutcomeUnknownError extends BelayError {
  constructor(operation: string | { readonly script: string }, cause: unknown, refusal?: string) {
    // The name of a script means nothing to a user: only the details have it.
    const isNamed = typeof operation === 'string';
    const lost = isNamed
      ? `The reply to ${operation} was lost; it may have run.`
      : "The state server's reply was lost: the call may or may not have been carried out.";
    const what =
      refusal === undefined
        ? lost
        : `The Valkey server refuses ${isNamed ? operation : 'the call'} for now (${refusal}); an earlier try may have run.`;
    super('OUTCOME_UNKNOWN', `${what} Look before you repeat it.`, {
      cause,
      ...(isNamed ? {} : { details: operation }),
    });
  }
}

/** The state server answers with a temporary refusal: it loads, is full, is a replica, or runs a long script. */
export class ServerRefusingError extends BelayError {
  constructor(refusal: string, cause?: unknown) {
    super(
      'SERVER_REFUSED',
      `The Valkey server answers, but refuses for now (${refusal}). Try again in a moment; if it lasts, look at the server.`,
      { cause },
    );
  }
}

const megabytes = (bytes: number): number => Math.round(bytes / 1024 / 1024);

/** The state server's memory has no room for more work. HTTP 507, nothing stored. Running agents go on, and can be stopped. */
export class ServerFullError extends BelayError {
  constructor(usedBytes: number, limitBytes: number, cause?: unknown) {
    const figures = `${megabytes(usedBytes)} MB of its memory are used, new work is taken up to ${megabytes(limitBytes)} MB`;
    super(
      'SERVER_FULL',
      `The state server is full: ${figures}. Nothing was stored. Raise its maxmemory (or BELAY_MAX_STATE_MB), or keep fewer ended executions (BELAY_RETENTION, BELAY_MAX_ENDED), then try again.`,
      { cause, details: { usedBytes, limitBytes } },
    );
  }
}

/** The state server cannot be reached. */
export class ServerUnreachableError extends BelayError {
  constructor(where: string, cause?: unknown) {
    super(
      'SERVER_UNREACHABLE',
      `The Valkey server at ${where} cannot be reached. Is it running? Check BELAY_VALKEY_URL.`,
      {
        cause,
      },
    );
  }
}
