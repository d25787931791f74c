import { BelayError, OutcomeUnknownError } from '#libs/contracts';
import { problemToError } from './problem-to-error';
import { OrchestratorUnreachableError, wasNeverSent } from './unreachable';

/** Where calls go and how. */
export interface Transport {
  readonly url: string;
  readonly token?: string;
  readonly fetch: typeof globalThis.fetch;
}

export interface RequestShape {
  readonly method: 'GET' | 'POST';
  /** With its query. */
  readonly path: string;
  readonly body?: unknown;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** What a person should know when the time is up. */
  readonly onTimeout?: string;
  /** Statuses that are an answer though they are not 2xx. */
  readonly alsoOk?: readonly number[];
}

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** One call and its JSON answer; rejects with a BelayError, or with the reason of an aborted signal. */
export async function sendRequest(transport: Transport, shape: RequestShape): Promise<Answer> {
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
    if (controller.signal.aborted) throw timeoutError(shape, what);
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
export function headersOf(transport: Transport, shape: { readonly body?: unknown }): Record<string, string> {
  return {
    accept: 'application/json, application/problem+json',
    ...(transport.token === undefined ? {} : { authorization: `Bearer ${transport.token}` }),
    ...(shape.body === undefined ? {} : { 'content-type': 'application/json' }),
  };
}

const HINTS = {
  GET: 'Is the orchestrator overloaded? Look with: belay doctor',
  POST: 'It may have run: look before you repeat it, with: belay ps --all',
} as const;

function timeoutError(shape: RequestShape, what: string): BelayError {
  const seconds = Math.round(shape.timeoutMs / 100) / 10;
  const hint = shape.onTimeout ?? HINTS[shape.method];
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
