import { isBelayError, type ErrorCode } from '#libs/contracts';
import type { FollowOptions } from './client.types';
import { openStream, type Frame } from './open-stream';
import { backoffMs, pause } from './pause';
import type { Transport } from './send-request';

export interface FollowShape {
  readonly path: string;
  readonly options: FollowOptions;
  /** Called when the server closed the stream: whether that was the end, or the connection was lost. */
  readonly isOver: () => Promise<boolean> | boolean;
  /** The wait between two tries, for tests. */
  readonly waitMs?: (attempt: number) => number;
}

/**
 * The frames of a stream across lost connections: each new connection resumes after the last id seen. Waits grow and are
 * bounded, and so is the whole outage. The first connection is not retried, so that a wrong address fails at once.
 */
export async function* followFrames(transport: Transport, shape: FollowShape): AsyncGenerator<Frame, void> {
  const { options } = shape;
  const giveUpAfterMs = options.giveUpAfterMs ?? 60_000;
  let lastEventId = options.lastEventId;
  let opened = false;
  let attempt = 0;
  let lostAt: number | undefined;
  let serverRetryMs: number | undefined;
  const isAborted = (): boolean => options.signal?.aborted === true;
  while (!isAborted()) {
    let lost: unknown;
    try {
      const frames = openStream(transport, {
        path: shape.path,
        ...(lastEventId === undefined ? {} : { lastEventId }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        onOpen: () => (opened = true),
        onRetry: (ms) => (serverRetryMs = Math.min(ms, 10_000)),
      });
      for await (const frame of frames) {
        if (frame.id !== undefined && frame.id !== '') lastEventId = frame.id;
        lostAt = undefined;
        attempt = 0;
        yield frame;
      }
      if (await shape.isOver()) return;
    } catch (error) {
      if (isAborted()) return;
      if (!opened || !isTransient(error)) throw error;
      lost = error;
    }
    lostAt ??= performance.now();
    if (performance.now() - lostAt > giveUpAfterMs) throw lost ?? new Error('The stream keeps closing.');
    const delayMs = Math.max(shape.waitMs?.(attempt) ?? backoffMs(attempt), serverRetryMs ?? 0);
    serverRetryMs = undefined;
    attempt++;
    options.onReconnect?.({ error: lost, delayMs });
    await pause(delayMs, options.signal);
  }
}

/** Whether another try can help: the server is away, busy or draining. A refusal or a missing id does not change. */
function isTransient(error: unknown): boolean {
  return isBelayError(error) && PASSING.has(error.code);
}

const PASSING: ReadonlySet<ErrorCode> = new Set([
  'SERVER_UNREACHABLE',
  'SERVER_REFUSED',
  'OUTCOME_UNKNOWN',
  'DRAINING',
  'RATE_LIMITED',
  'TIMEOUT',
]);
