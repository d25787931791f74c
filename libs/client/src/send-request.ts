import { BelayError, OutcomeUnknownError } from '#libs/contracts';
import { problemToError } from './problem-to-error';
import { OrchestratorSilentError, OrchestratorUnreachableError, wasNeverSent } from './unreachable';

/** The addresses of calls, and how to make them. */
export interface Transport {
  /** The orchestrator that is used now: the first, or the one that answered last. */
  url: string;
  /** All known orchestrators; the first is tried first. */
  readonly urls: readonly string[];
  readonly token?: string;
  readonly fetch: typeof globalThis.fetch;
  /** How long a repeatable call is repeated after its first failure. Milliseconds. */
  readonly repeatForMs: number;
}

export interface RequestShape {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** The path with its query. */
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** The request is idempotent, so it may be repeated after a lost reply. Default: reads. */
  readonly isRepeatable?: boolean;
  /** A temporary refusal is waited out, too. */
  readonly waitsForServer?: boolean;
  /** After this silence another orchestrator is asked, if one is known. Milliseconds. */
  readonly patienceMs?: number;
  /** The message for a person when the time is up. */
  readonly onTimeout?: string;
  /** Statuses outside 2xx that are answers and no errors. */
  readonly alsoOk?: readonly number[];
}

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** One request to one orchestrator, and its JSON answer; rejects with a BelayError, or with the reason of an aborted signal. */
export async function sendOnce(transport: Transport, shape: RequestShape): Promise<Answer> {
  const what = `${shape.method} ${shape.path}`;
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), shape.timeoutMs);
  const forward = (): void => controller.abort();
  shape.signal?.addEventListener('abort', forward, { once: true });
  try {
    shape.signal?.throwIfAborted();
    const response = await transport.fetch(transport.url + shape.path, {
      method: shape.method,
      headers: headersOf(transport, shape),
      redirect: 'error',
      signal: controller.signal,
      ...(shape.body === undefined ? {} : { body: JSON.stringify(shape.body) }),
    });
    const text = await response.text();
    if (!response.ok && shape.alsoOk?.includes(response.status) !== true)
      throw problemToError(response.status, text, what);
    return { status: response.status, body: parseBody(text, what) };
  } catch (error) {
    if (error instanceof BelayError) throw error;
    shape.signal?.throwIfAborted();
    if (controller.signal.aborted) throw timeoutError(transport.url, shape, what);
    // A read can be repeated. A write whose reply was lost may have run, so it gets another message.
    if (shape.method === 'GET' || wasNeverSent(error))
      throw new OrchestratorUnreachableError(transport.url, error);
    throw new OutcomeUnknownError(what, error);
  } finally {
    clearTimeout(timer);
    shape.signal?.removeEventListener('abort', forward);
  }
}

/** The headers every call carries. */
export function headersOf(
  transport: Transport,
  shape: Pick<RequestShape, 'body' | 'headers'>,
): Record<string, string> {
  return {
    ...shape.headers,
    accept: 'application/json, application/problem+json',
    ...(transport.token === undefined ? {} : { authorization: `Bearer ${transport.token}` }),
    ...(shape.body === undefined ? {} : { 'content-type': 'application/json' }),
  };
}

const MAY_HAVE_RUN = 'It may have run: look before you repeat it, with: belay ps --all';

/** A read without an answer reached nobody; a write may have run. */
function timeoutError(url: string, shape: RequestShape, what: string): BelayError {
  const seconds = Math.round(shape.timeoutMs / 100) / 10;
  if (shape.method === 'GET') return new OrchestratorSilentError(url, seconds);
  const hint = shape.onTimeout ?? MAY_HAVE_RUN;
  return new BelayError('TIMEOUT', `${what} had no answer within ${seconds} s. ${hint}`);
}

function parseBody(text: string, what: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    const start = text.slice(0, 60).replaceAll(/\s+/g, ' ');
    throw new BelayError('INTERNAL', `${what} was answered with something that is not JSON: ${start}`, {
      cause,
    });
  }
}
