import { EXECUTION_MACHINE, isEnded, type BelayEvent } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import { Semaphore } from './semaphore';
import type { SseStream } from './sse';

const BATCH = 200;
/** Streams reading at a time, of all there are: a kill asked of this process must not wait behind a crowd of them. */
const READERS = 4;
const reading = new Semaphore(READERS);
const WAIT_MS = 15_000;

/** Of two ids of one stream. */
export function isAfter(a: string, b: string): boolean {
  const [am = 0, as = 0] = a.split('-').map(Number);
  const [bm = 0, bs = 0] = b.split('-').map(Number);
  return am === bm ? as > bs : am > bm;
}

/** Aborts with either of two signals. AbortSignal.any is not used: on Node 20 its result can be collected too early. */
export function either(a: AbortSignal, b: AbortSignal): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  if (a.aborted || b.aborted) abort();
  a.addEventListener('abort', abort);
  b.addEventListener('abort', abort);
  return {
    signal: controller.signal,
    release: () => {
      a.removeEventListener('abort', abort);
      b.removeEventListener('abort', abort);
    },
  };
}

/**
 * Streams one execution's events from `lastId` on: what is stored is read, the published events only say when to read
 * again, so nothing is lost, doubled or out of order (R57). Ends after the terminal event, or with a final frame when
 * the server drains.
 */
export async function streamExecution(
  lifecycle: LifecycleService,
  feed: ChangeFeed,
  stream: SseStream,
  options: { executionId: string; lastId?: string; closing: AbortSignal },
): Promise<void> {
  const { executions } = lifecycle;
  const { executionId } = options;
  const record = await executions.get(executionId);
  stream.send('ready', { executionId, state: record.state });
  let cursor = options.lastId ?? '0-0';
  const first = await executions.firstEventId(executionId);
  if (options.lastId !== undefined && first !== undefined && isAfter(first, options.lastId)) {
    stream.send('reset', { snapshot: record, oldest: first });
  }
  const { signal, release } = either(stream.gone.signal, options.closing);
  void stream.closed.then(release);
  while (!signal.aborted) {
    const from = cursor;
    const events = await reading.run(async () => sendBatch(executions, stream, executionId, from));
    if (events === undefined) return;
    cursor = events.at(-1)?.id ?? cursor;
    if (events.length === BATCH) continue;
    // The record decides: an ended execution that is retried later begins a new stream.
    const { state } = await executions.get(executionId);
    if (isEnded(EXECUTION_MACHINE, state) && (await executions.events(executionId, cursor, 1)).length === 0) {
      stream.send('end', { state });
      return stream.end();
    }
    const look = async () =>
      (await executions.events(executionId, cursor, 1)).length > 0 ? true : undefined;
    await feed
      .until(look, (event) => event.executionId === executionId, {
        timeoutMs: WAIT_MS,
        what: 'An event',
        signal,
      })
      .catch(() => undefined);
  }
  if (options.closing.aborted) stream.send('server_shutting_down', { retryAfterMs: 1_000 });
  stream.end();
}

/** Reads and sends one batch; undefined when the client is gone. A turn of the loop for everything else in between. */
async function sendBatch(
  executions: LifecycleService['executions'],
  stream: SseStream,
  executionId: string,
  cursor: string,
): Promise<BelayEvent[] | undefined> {
  await new Promise((resolve) => setImmediate(resolve));
  const events = await executions.events(executionId, cursor, BATCH);
  for (const event of events) if (!stream.send('event', event, event.id)) return undefined;
  return events;
}
