import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

/** Errors by which the server refuses commands temporarily. */
const REFUSING =
  /^(LOADING|BUSY|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|OOM|MISCONF|NOREPLICAS|UNBLOCKED|ERR max number of clients reached)/;
const AWAY =
  /Connection is closed|E(?:CONNREFUSED|CONNRESET|PIPE|NOENT|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTFOUND|AI_AGAIN)|Socket timeout|Stream isn't writeable|max retries|Command timed out|Too many Cluster redirections|startup nodes|refresh slots cache|access a non local key|Cluster isn't ready|Command aborted due to connection close|Node is disconnected/;

/** Whether the server may answer a moment later: a lost connection, a restart, a failover. */
export function isTransient(error: unknown): boolean {
  return (
    error instanceof Error &&
    (REFUSING.test(error.message) || AWAY.test(error.message) || error.name === 'MaxRetriesPerRequestError')
  );
}

/** Whether the server refuses because its memory is full. */
export function isFull(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('OOM');
}

/** The server's word for a temporary refusal (`READONLY`, `LOADING`, …); undefined when the error has none. */
export function refusalOf(error: unknown): string | undefined {
  return error instanceof Error ? REFUSING.exec(error.message)?.[1] : undefined;
}

const FIRST_WAIT_MS = 20;
const LONGEST_WAIT_MS = 500;

/**
 * Repeats `act` while its error is transient (the server is away). Throws any other error at once. Throws the last transient
 * error once `patienceMs` have passed, or once `isOver` says that no answer can come any more.
 */
export async function retryTransient<T>(
  act: () => Promise<T>,
  patienceMs = 10_000,
  isOver: () => boolean = () => false,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (isOver() || performance.now() > deadline) {
        // A closed connection refuses at once, by promises alone: a caller that repeats would keep the event loop for itself.
        await nextTurn();
        throw error;
      }
      await delay(Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS));
    }
  }
}

/** Removes the command from a server's error: its arguments contain specs, results and tokens, which must not be logged. */
export function withoutCommand(error: unknown): unknown {
  if (error instanceof Error) delete (error as { command?: unknown }).command;
  return error;
}
