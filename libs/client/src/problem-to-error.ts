import { BelayError, ERROR_STATUS, type ErrorCode, type Problem } from '#libs/contracts';

/**
 * The BelayError of a failed answer: the server's own code, problems and details where the body is problem+json, else the
 * nearest code for the status (a proxy answers in its own words).
 */
export function problemToError(status: number, body: string, what: string): BelayError {
  const problem = parseObject(body);
  const code = codeOf(problem?.['code'], status);
  // Belay always sends a code of its own, so whatever answered is not Belay.
  if (status === 404 && problem?.['code'] === undefined)
    return new BelayError(
      'SERVER_REFUSED',
      `${what} was answered with HTTP 404, and not by an orchestrator. Check the address.`,
      { details: { status } },
    );
  const sentence = textOf(problem?.['detail']) ?? textOf(problem?.['title']);
  return new BelayError(code, sentence ?? `${what} was answered with HTTP ${status}.`, {
    problems: problemsOf(problem?.['problems']),
    details: { status, ...objectOf(problem?.['details']) },
  });
}

function codeOf(code: unknown, status: number): ErrorCode {
  if (typeof code === 'string' && Object.hasOwn(ERROR_STATUS, code)) return code as ErrorCode;
  switch (status) {
    case 401:
    case 403:
      return 'UNAUTHORIZED';
    case 413:
      return 'PAYLOAD_TOO_LARGE';
    case 415:
      return 'UNSUPPORTED_MEDIA_TYPE';
    case 429:
      return 'RATE_LIMITED';
    case 502:
    case 503:
      return 'SERVER_UNREACHABLE';
    case 504:
      return 'TIMEOUT';
    default:
      return status < 500 ? 'INVALID_REQUEST' : 'INTERNAL';
  }
}

function problemsOf(value: unknown): Problem[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown) => {
    const { path, code, message } = objectOf(entry);
    if (typeof message !== 'string') return [];
    return [
      {
        path: typeof path === 'string' ? path : '',
        code: typeof code === 'string' ? code : 'INVALID',
        message,
      },
    ];
  });
}

function parseObject(body: string): Record<string, unknown> | undefined {
  try {
    return objectOf(JSON.parse(body));
  } catch {
    return undefined;
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
