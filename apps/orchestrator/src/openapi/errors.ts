import { ERROR_STATUS, isStopping, type ErrorCode, type RouteRule } from '#libs/contracts';
import type { Operation } from './operation.types';

/** The subjects of which a route names one by its id: an unknown one, and one of others, is answered 404. */
const NAMED: ReadonlySet<RouteRule['about']> = new Set(['execution', 'agent', 'order', 'latch', 'named']);

/** Every code that a route can answer, by its status (docs/http-api.md#errors). */
export function codesOf(rule: RouteRule, { codes = [] }: Operation): Map<number, readonly ErrorCode[]> {
  const isOpen = rule.needs === 'none';
  const all: readonly ErrorCode[] = [
    'INVALID_REQUEST',
    ...(rule.method === 'GET'
      ? []
      : (['INVALID_JSON', 'PAYLOAD_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE'] as const)),
    ...(isOpen ? [] : (['UNAUTHORIZED', 'FORBIDDEN'] as const)),
    // A field can make a stopping route do something else.
    ...(isOpen || (isStopping(rule) && rule.field === undefined) ? [] : (['RATE_LIMITED'] as const)),
    ...(NAMED.has(rule.about) ? (['NOT_FOUND'] as const) : []),
    ...codes,
    'INTERNAL',
    'DRAINING',
    ...(isOpen
      ? []
      : (['CORRUPT_RECORD', 'SERVER_UNREACHABLE', 'SERVER_REFUSED', 'OUTCOME_UNKNOWN', 'TIMEOUT'] as const)),
  ];
  const found = new Map<number, readonly ErrorCode[]>();
  for (const code of new Set(all))
    found.set(ERROR_STATUS[code], [...(found.get(ERROR_STATUS[code]) ?? []), code]);
  // Node refuses these before there is a request to route (http/client-error.ts).
  found.set(408, ['TIMEOUT']);
  found.set(431, ['INVALID_REQUEST']);
  return new Map([...found].sort(([a], [b]) => a - b));
}

/** The meaning of a status, for people. */
export const STATUS_MEANING: Readonly<Record<number, string>> = {
  200: 'Done.',
  201: 'Created.',
  202: 'Stored; its outcome is not known yet.',
  400: 'The request is not valid; `problems` lists every fault.',
  401: 'No token, or none that is valid.',
  403: 'The token may not do this.',
  404: 'No record has that id.',
  408: 'The request took too long to arrive.',
  409: 'The present state does not allow it.',
  413: 'The body is too large.',
  415: 'The body is not application/json.',
  423: 'A latch covers it.',
  429: 'Too much at this moment; `Retry-After` says when to try again.',
  431: 'The head of the request is too large.',
  500: 'A fault of Belay.',
  503: 'This orchestrator or the state server is not available.',
  504: 'It took too long.',
  507: "The state server's memory is used up.",
};
