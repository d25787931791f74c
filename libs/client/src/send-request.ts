import { BelayError, OutcomeUnknownError } from '#libs/contracts';
import { problemToError } from './problem-to-error';
import { OrchestratorSilentError, OrchestratorUnreachableError, wasNeverSent } from './unreachable';

/** Where calls go and how. */
export interface Transport {
  /** The orchestrator that is asked now: the first, or the one that answered last. */
  url: string;
  /** All that are known; the first is tried first. */
  readonly urls: readonly string[];
  readonly token?: string;
  readonly fetch: typeof globalThis.fetch;
  /** How long a call that may be repeated is, after it failed for the first time. Milliseconds. */
  readonly repeatForMs: number;
}

export interface RequestShape {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** With its query. */
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** The request is idempotent, so a lost reply is no reason to give up. Default: reads. */
  readonly isRepeatable?: boolean;
  /** A refusal that passes by itself is waited out, too. */
  readonly waitsForServer?: boolean;
  /** Silence after which another orchestrator is asked, where one is known. Milliseconds. */
  readonly patienceMs?: number;
  /** The message for a person when the time is up. */
  readonly onTimeout?: string;
  /** Statuses that are an answer though they are not 2xx. */
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
    // A read can be asked again; a write whose reply was lost may have run, and that is another message.
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

/** Without an answer a read is one that nobody heard; a write may have run. */
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
