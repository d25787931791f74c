import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A live worker answers a question without work within this time, however busy it is. Milliseconds. */
export const AWAKE_MS = 5_000;
const ASK_AGAIN_MS = 1_000;

/** The worker accepted the connection and did not answer: it is suspended or hangs, and will read the request when it wakes. */
export class SilentWorkerError extends Error {
  override readonly name = 'SilentWorkerError';
}

/**
 * Sends one line to a worker's socket and returns its one line of answer. A kill takes as long as its graces, so its time is
 * not limited. Beside it, other requests check that the worker is awake.
 *
 * @throws SilentWorkerError; the errors of the connection; the signal's reason.
 */
export async function askWorker(
  socket: string,
  request: object,
  { signal, awakeMs = AWAKE_MS }: { readonly signal: AbortSignal; readonly awakeMs?: number },
): Promise<unknown> {
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const answer = exchange(socket, request, either);
  const watch = stayAwake(socket, awakeMs, either);
  try {
    return await Promise.race([answer, watch]);
  } finally {
    ended.abort();
    // The loser of the race is cut off, and its error is ignored.
    await Promise.allSettled([answer, watch]);
    signal.throwIfAborted();
  }
}

/** Checks again and again that the worker answers; it can only reject. */
async function stayAwake(socket: string, awakeMs: number, signal: AbortSignal): Promise<never> {
  for (;;) {
    const silence = AbortSignal.timeout(awakeMs);
    try {
      // An invalid request is refused at once, and does nothing.
      await exchange(socket, {}, AbortSignal.any([signal, silence]));
    } catch (error) {
      if (silence.aborted && !signal.aborted) throw new SilentWorkerError(`no answer within ${awakeMs} ms`);
      throw error;
    }
    await delay(ASK_AGAIN_MS, undefined, { signal });
  }
}

async function exchange(path: string, request: object, signal: AbortSignal): Promise<unknown> {
  signal.throwIfAborted();
  const socket = connect(path);
  const cut = (): void => void socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', cut, { once: true });
  try {
    socket.setEncoding('utf8');
    socket.write(`${JSON.stringify(request)}\n`);
    let text = '';
    for await (const chunk of socket) text += chunk as string;
    if (text.trim() === '') throw new Error('it closed the connection without an answer');
    return JSON.parse(text) as unknown;
  } finally {
    signal.removeEventListener('abort', cut);
    socket.destroy();
  }
}
