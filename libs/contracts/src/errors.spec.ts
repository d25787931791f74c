import {
  BelayError,
  ERROR_STATUS,
  InvalidSpecError,
  InvalidTransitionError,
  isBelayError,
  NotFoundError,
  UnknownCursorError,
  OutcomeUnknownError,
  ServerFullError,
  ServerRefusingError,
  ServerUnreachableError,
  StaleEpochError,
} from './errors';

describe('an error of ours', () => {
  it('has a code, its own name, and nothing more unless given', () => {
    const error = new BelayError('INTERNAL', 'It broke.');
    expect(error).toMatchObject({
      code: 'INTERNAL',
      name: 'BelayError',
      message: 'It broke.',
      problems: [],
      details: {},
    });
    expect(Object.hasOwn(error, 'cause')).toBe(false);
  });

  it('keeps its cause, problems and details', () => {
    const cause = new Error('why');
    const problems = [{ path: 'a', code: 'TYPE', message: 'm' }];
    const error = new BelayError('INTERNAL', 'It broke.', { cause, problems, details: { id: 1 } });
    expect(error.cause).toBe(cause);
    expect(error).toMatchObject({ problems, details: { id: 1 } });
  });

  it('is known across two copies of the library by its brand, which JSON does not show', () => {
    const error = new BelayError('INTERNAL', 'x');
    const foreign = { [Symbol.for('belay.error')]: true };
    expect([error, foreign].map(isBelayError)).toEqual([true, true]);
    expect([null, undefined, 'x', {}, new Error('x')].some(isBelayError)).toBe(false);
    expect(JSON.stringify(error)).not.toContain('belay.error');
  });

  it('maps every code to the HTTP status that docs/http-api.md publishes', () => {
    expect(ERROR_STATUS).toEqual({
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
      SERVER_FULL: 507,
      INTERNAL: 500,
      CORRUPT_RECORD: 500,
      DRAINING: 503,
      SERVER_UNREACHABLE: 503,
      SERVER_REFUSED: 503,
      OUTCOME_UNKNOWN: 503,
      TIMEOUT: 504,
      SPAWN_FAILED: 500,
      SHARD_MISMATCH: 500,
    });
  });
});

describe('the text that people read', () => {
  it.each<[Error, string, string]>([
    [
      new InvalidTransitionError('execution', 'exe_1', 'running', 'idle', ['paused', 'stopping']),
      'INVALID_TRANSITION',
      'execution exe_1 cannot go from running to idle: from running it can become paused, stopping.',
    ],
    [
      new InvalidTransitionError('agent', 'agt_1', 'killed', 'running', []),
      'INVALID_TRANSITION',
      'agent agt_1 cannot go from killed to running: killed is final.',
    ],
    [new UnknownCursorError(), 'INVALID_REQUEST', 'The cursor is not from this list.'],
    [new NotFoundError('worker', 'wrk_1'), 'NOT_FOUND', 'No worker wrk_1. List them with: belay workers'],
    [new NotFoundError('order', 'ord_1'), 'NOT_FOUND', 'No order ord_1. List them with: belay audit'],
    [
      new NotFoundError('execution', 'exe_1'),
      'NOT_FOUND',
      'No execution exe_1. List them with: belay ps --all',
    ],
    [
      new StaleEpochError('agent', 'agt_1'),
      'STALE_EPOCH',
      'agent agt_1 is no longer owned by this writer; its write was refused.',
    ],
    [
      new OutcomeUnknownError('endAgent', new Error('reset')),
      'OUTCOME_UNKNOWN',
      'The reply to endAgent was lost; it may have run. Look before you repeat it.',
    ],
    [
      new OutcomeUnknownError('endAgent', new Error('READONLY …'), 'READONLY'),
      'OUTCOME_UNKNOWN',
      'The Valkey server refuses endAgent for now (READONLY); an earlier try may have run. Look before you repeat it.',
    ],
    [
      new OutcomeUnknownError({ script: 'placeOrder' }, new Error('reset')),
      'OUTCOME_UNKNOWN',
      "The state server's reply was lost: the call may or may not have been carried out. Look before you repeat it.",
    ],
    [
      new OutcomeUnknownError({ script: 'placeOrder' }, new Error('READONLY …'), 'READONLY'),
      'OUTCOME_UNKNOWN',
      'The Valkey server refuses the call for now (READONLY); an earlier try may have run. Look before you repeat it.',
    ],
    [
      new ServerRefusingError('LOADING'),
      'SERVER_REFUSED',
      'The Valkey server answers, but refuses for now (LOADING). Try again in a moment; if it lasts, look at the server.',
    ],
    [
      new ServerFullError(230 * 1024 * 1024, 225 * 1024 * 1024),
      'SERVER_FULL',
      'The state server is full: 230 MB of its memory are used, new work is taken up to 225 MB. Nothing was stored. Raise its maxmemory (or BELAY_MAX_STATE_MB), or keep fewer ended executions (BELAY_RETENTION, BELAY_MAX_ENDED), then try again.',
    ],
    [
      new ServerUnreachableError('127.0.0.1:6379'),
      'SERVER_UNREACHABLE',
      'The Valkey server at 127.0.0.1:6379 cannot be reached. Is it running? Check BELAY_VALKEY_URL.',
    ],
    [new InvalidSpecError([]), 'INVALID_SPEC', 'The execution spec is not valid: it is empty.'],
    [
      new InvalidSpecError([{ path: '', code: 'TYPE', message: 'must be an object.' }]),
      'INVALID_SPEC',
      'The execution spec is not valid: must be an object.',
    ],
    [
      new InvalidSpecError([
        { path: 'name', code: 'REQUIRED', message: 'is missing.' },
        { path: 'x', code: 'UNKNOWN_FIELD', message: 'unknown field.' },
      ]),
      'INVALID_SPEC',
      'The execution spec is not valid: name: is missing. (and 1 more)',
    ],
  ])('%#: %s', (error, code, message) => {
    expect(error).toMatchObject({ code, message });
    expect(error.name).toBe(error.constructor.name);
    expect(isBelayError(error)).toBe(true);
  });

  it('carries further facts for programs', () => {
    expect(new StaleEpochError('agent', 'agt_1', { epoch: 3 }).details).toEqual({
      entity: 'agent',
      id: 'agt_1',
      epoch: 3,
    });
    expect(new InvalidTransitionError('node', 'a', 'x', 'y', ['z']).details).toEqual({
      entity: 'node',
      id: 'a',
      from: 'x',
      to: 'y',
      allowed: ['z'],
    });
  });
});
