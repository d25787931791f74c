import { isBelayError, type ErrorCode } from '#libs/contracts';
import { backoffMs, pause } from './pause';
import { sendOnce, type Answer, type RequestShape, type Transport } from './send-request';
import { OrchestratorSilentError, OrchestratorUnreachableError } from './unreachable';

/**
 * The outcome of one try. `absent`: nobody accepted the connection. `silent`: accepted, and no answer. `unsure`: the call may
 * have run. `passing`: a temporary refusal. `final`: an answer, or an error that no other try would change.
 */
type Outcome = 'absent' | 'silent' | 'unsure' | 'passing' | 'final';

/**
 * One call. It goes to another orchestrator where this one is away, drains or is silent. A repeatable call is repeated while
 * its outcome is unknown, for `repeatForMs` after its first failure. A first connection that is refused everywhere fails at
 * once, so that a wrong address shows.
 */
export async function sendRequest(transport: Transport, shape: RequestShape): Promise<Answer> {
  const { urls, repeatForMs } = transport;
  const { method, isRepeatable = method === 'GET', patienceMs = Infinity } = shape;
  const end = performance.now() + shape.timeoutMs;
  let firstFailureAt: number | undefined;
  let elsewhere = urls.length - 1;
  let unsure: unknown;
  for (let failures = 0; ; failures++) {
    const leftMs = Math.max(1, end - performance.now());
    // Silence is cut short only where another orchestrator can be asked.
    const timeoutMs = elsewhere > 0 ? Math.min(patienceMs, leftMs) : leftMs;
    try {
      return await sendOnce(transport, { ...shape, timeoutMs });
    } catch (error) {
      const outcome = outcomeOf(error, shape);
      if (outcome === 'final') throw error;
      firstFailureAt ??= performance.now();
      if (outcome === 'unsure' || (outcome === 'silent' && method === 'POST')) unsure = error;
      const isForAnother = outcome === 'absent' || (outcome === 'silent' && isRepeatable);
      const mayRepeat = isRepeatable && method === 'POST' && performance.now() - firstFailureAt < repeatForMs;
      let waitMs = Math.max(backoffMs(failures), retryAfterOf(error));
      if (isForAnother && elsewhere > 0) {
        elsewhere--;
        waitMs = 0;
      } else if (outcome === 'silent' || !mayRepeat || (outcome === 'absent' && unsure === undefined)) {
        throw unsure ?? error;
      } else elsewhere = urls.length - 1;
      transport.url = urls[(urls.indexOf(transport.url) + 1) % urls.length] ?? transport.url;
      if (performance.now() + waitMs >= end) throw unsure ?? error;
      await pause(waitMs, shape.signal);
      shape.signal?.throwIfAborted();
    }
  }
}

/** The wait that a refusal asks for: the server's `Retry-After`, in milliseconds. */
function retryAfterOf(error: unknown): number {
  const ms = isBelayError(error) ? error.details['retryAfterMs'] : undefined;
  return typeof ms === 'number' && ms > 0 ? ms : 0;
}

/** Refusals after which nothing was done. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['SERVER_UNREACHABLE', 'SERVER_REFUSED', 'RATE_LIMITED']);

function outcomeOf(error: unknown, { signal, waitsForServer = false }: RequestShape): Outcome {
  if (!isBelayError(error) || signal?.aborted === true) return 'final';
  if (error instanceof OrchestratorSilentError) return 'silent';
  if (error instanceof OrchestratorUnreachableError || error.code === 'DRAINING') return 'absent';
  if (error.code === 'OUTCOME_UNKNOWN') return 'unsure';
  // An error without a status came from no server: the time-out is this client's.
  if (error.code === 'TIMEOUT') return error.details['status'] === undefined ? 'silent' : 'final';
  // The orchestrator has waited for its server before it answered so. A person who stops something must learn that now.
  return waitsForServer && PASSING.has(error.code) ? 'passing' : 'final';
}
