import { BelayError } from '#libs/contracts';

/** Nothing answered at the orchestrator's address. */
export class OrchestratorUnreachableError extends BelayError {
  constructor(
    readonly url: string,
    cause?: unknown,
  ) {
    super(
      'SERVER_UNREACHABLE',
      `No orchestrator answers at ${url} (${causeOf(cause)}). Start one with: belay up`,
      { cause, details: { url } },
    );
  }
}

/** Something accepted the connection at the orchestrator's address, and did not answer. */
export class OrchestratorSilentError extends BelayError {
  constructor(
    readonly url: string,
    seconds: number,
  ) {
    super(
      'SERVER_UNREACHABLE',
      `The orchestrator at ${url} gave no answer within ${seconds} s. It hangs or is overloaded. Look with: belay doctor`,
      { details: { url } },
    );
  }
}

/** Whether the call failed before a byte of it was sent: it certainly did not run. */
export function wasNeverSent(error: unknown): boolean {
  const code = codeOf(error);
  return code !== undefined && NEVER_SENT.has(code);
}

const NEVER_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** The fields that are read of an error. By shape, not by class: an error of fetch may come from another realm. */
interface ErrorShape {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly cause?: unknown;
  readonly errors?: unknown;
}

/** `fetch failed` says nothing; the reason is one or two causes deeper. */
function causeOf(error: unknown): string {
  const code = codeOf(error);
  if (code !== undefined) return PHRASES[code] ?? code;
  const outer = shapeOf(error);
  const message = shapeOf(outer?.cause)?.message ?? outer?.message;
  return typeof message === 'string' ? message : 'no reason given';
}

function codeOf(error: unknown): string | undefined {
  let current = shapeOf(error);
  for (let depth = 0; depth < 5 && current !== undefined; depth++) {
    if (typeof current.code === 'string') return current.code;
    // A host with several addresses fails with one error for each; the first one is used.
    current = shapeOf(Array.isArray(current.errors) ? current.errors[0] : current.cause);
  }
  return undefined;
}

function shapeOf(value: unknown): ErrorShape | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}

const PHRASES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection lost',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'name lookup failed',
  ETIMEDOUT: 'timed out',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'no route to host',
  UND_ERR_SOCKET: 'connection lost',
  UND_ERR_CONNECT_TIMEOUT: 'timed out',
};
