import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import {
  ERROR_STATUS,
  isBelayError,
  ServerRefusingError,
  ServerUnreachableError,
  type BelayError,
  type ErrorCode,
  type Problem,
} from '#libs/contracts';
import type { ServiceLog } from '#libs/service';
import { isTransient, refusalOf } from '#libs/valkey';
import type { FastifyReply } from 'fastify';

interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly problems?: readonly Problem[];
  readonly details?: Readonly<Record<string, unknown>>;
}

const BY_STATUS: Record<number, ErrorCode> = {
  400: 'INVALID_REQUEST',
  401: 'UNAUTHORIZED',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  429: 'RATE_LIMITED',
  503: 'DRAINING',
};

/** The problem+json of an error. A foreign error shows a code and no internals (docs/http-api.md#errors). */
export function toProblem(raised: unknown): ProblemBody {
  const error = isBelayError(raised) || !isTransient(raised) ? raised : serverTrouble(raised);
  if (isBelayError(error)) {
    return {
      type: 'about:blank',
      title: titleOf(error.code),
      status: ERROR_STATUS[error.code],
      code: error.code,
      detail: error.message,
      ...(error.problems.length > 0 ? { problems: error.problems } : {}),
      ...(Object.keys(error.details).length > 0 ? { details: error.details } : {}),
    };
  }
  const status =
    error instanceof HttpException
      ? error.getStatus()
      : ((error as { statusCode?: number } | undefined)?.statusCode ?? 500);
  const known = status < 500 && error instanceof Error;
  const code = BY_STATUS[status] ?? (status < 500 ? 'INVALID_REQUEST' : 'INTERNAL');
  const said = known ? error.message : 'Something failed inside Belay; its log has the cause.';
  return {
    type: 'about:blank',
    title: titleOf(code),
    status,
    code,
    detail: DETAILS[code] ?? said,
  };
}

function serverTrouble(raised: unknown): BelayError {
  const refusal = refusalOf(raised);
  return refusal === undefined
    ? new ServerUnreachableError('its address', raised)
    : new ServerRefusingError(refusal, raised);
}

/** For codes whose framework messages do not say what to do. */
const DETAILS: Partial<Record<ErrorCode, string>> = {
  UNSUPPORTED_MEDIA_TYPE: 'The body must be JSON: send content-type: application/json.',
};

/** `INVALID_REQUEST` in words: `Invalid request`. */
function titleOf(code: ErrorCode): string {
  const words = code.toLowerCase().replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Turns errors into HTTP answers. No other code does. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly log: ServiceLog) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    const problem = toProblem(error);
    if (problem.status >= 500) this.log.error({ err: error }, 'request failed');
    if (reply.sent) return;
    if (problem.status === 503 || problem.status === 429)
      void reply.header('retry-after', retryAfterOf(problem));
    void reply
      .status(problem.status)
      .header('content-type', 'application/problem+json')
      .send(JSON.stringify(problem));
  }
}

/** In whole seconds. */
function retryAfterOf({ details }: ProblemBody): string {
  const ms = details?.['retryAfterMs'];
  return String(typeof ms === 'number' ? Math.max(1, Math.ceil(ms / 1_000)) : 1);
}
