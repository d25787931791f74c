import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A worker that lives answers a question without work in this time, however busy. Milliseconds. */
export const AWAKE_MS = 5_000;
const ASK_AGAIN_MS = 1_000;

/** The worker accepted and then said nothing: it is stopped or hangs, and reads what was asked when it wakes. */
export class SilentWorkerError extends Error {
  override readonly name = 'SilentWorkerError';
}

/**
 * One line to a worker's socket and its one line of answer. A kill takes as long as its graces, so its time is not
 * limited; that the worker is awake is asked beside it.
 *
 * @throws SilentWorkerError; what connecting throws; the signal's reason.
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
    // The loser of the race is cut off and its error is ignored.
    await Promise.allSettled([answer, watch]);
    signal.throwIfAborted();
  }
}

/** Asks again and again; only ever rejects. */
async function stayAwake(socket: string, awakeMs: number, signal: AbortSignal): Promise<never> {
  for (;;) {
    const silence = AbortSignal.timeout(awakeMs);
    try {
      // No valid request: it is refused at once, and nothing is done.
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
