import { EXECUTION_MACHINE, isEnded, type BelayEvent, type ExecutionRecord } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import { Semaphore } from './semaphore';
import type { SseStream } from './sse';

const BATCH = 64;
/** At most this many streams read at a time: a kill that this process handles must not wait behind a crowd of them. */
const READERS = 4;
export const reading = new Semaphore(READERS);
const WAIT_MS = 15_000;
/** Sent to clients of a draining server, as the `retry` field too. Milliseconds. */
export const RETRY_MS = 1_000;

/** Sent to clients whose execution waits for a signal. Milliseconds. */
const LOOK_AGAIN_MS = 10_000;

/** Whether no node of the execution can go on before a signal comes (docs/suspend.md). */
function isSuspended({ state, nodes, live }: ExecutionRecord): boolean {
  return state === 'running' && nodes.suspended > 0 && live === 0 && nodes.ready === 0 && nodes.running === 0;
}

/** Whether id `a` comes after id `b` in one stream. */
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
 * Streams one execution's events from `lastId` on. It reads the stored events; published events only tell when to read again.
 * So nothing is lost, doubled or out of order. Where events are missing (retention, a failover) a `reset` reports that, with
 * the present record. Ends after the terminal event, or with a final frame when the server drains; then the response is over.
 */
export async function streamExecution(
  lifecycle: LifecycleService,
  feed: ChangeFeed,
  stream: SseStream,
  options: { executionId: string; lastId?: string; closing: AbortSignal },
): Promise<void> {
  const { signal, release } = either(stream.gone.signal, options.closing);
  try {
    await followExecution(lifecycle, feed, stream, { ...options, signal });
    if (options.closing.aborted)
      stream.send('server_shutting_down', { retryAfterMs: RETRY_MS }, undefined, RETRY_MS);
  } finally {
    // Also when the state server is away for longer than a read is repeated: the client comes back with its last id.
    stream.end();
    release();
  }
}

async function followExecution(
  { executions }: LifecycleService,
  feed: ChangeFeed,
  stream: SseStream,
  { executionId, lastId, signal }: { executionId: string; lastId?: string; signal: AbortSignal },
): Promise<void> {
  const record = await executions.get(executionId);
  stream.send('ready', { executionId, state: record.state });
  const sender = new EventSender(executions, stream, executionId);
  await sender.resume(lastId);
  while (!signal.aborted) {
    const events = await reading.run(async () => {
      // Lets other work of the event loop run in between.
      await new Promise((resolve) => setImmediate(resolve));
      return executions.events(executionId, sender.cursor, BATCH);
    });
    // Outside of the semaphore: a slow client keeps no other stream from reading.
    if (!(await sender.send(events))) return;
    if (events.length === BATCH) continue;
    const hasMore = async () => (await executions.events(executionId, sender.cursor, 1)).length > 0;
    // The record decides: an ended execution that is retried later begins a new stream.
    const now = await executions.get(executionId);
    const { state } = now;
    if (isEnded(EXECUTION_MACHINE, state) && !(await hasMore())) {
      stream.send('end', { state });
      return;
    }
    if (isSuspended(now) && !(await hasMore())) {
      stream.send('suspended', { state }, undefined, LOOK_AGAIN_MS);
      return;
    }
    await feed
      .until(
        async () => (await hasMore()) || undefined,
        (event) => event.executionId === executionId,
        { timeoutMs: WAIT_MS, what: 'An event', signal },
      )
      .catch(() => undefined);
  }
}

/** Sends events in order, tracks the position, and reports a gap in their numbers. */
class EventSender {
  cursor = '0-0';
  /** The number of the last event sent; undefined while unknown. */
  private seq: number | undefined = 0;

  constructor(
    private readonly executions: LifecycleService['executions'],
    private readonly stream: SseStream,
    private readonly executionId: string,
  ) {}

  /** Resumes after the client's id. It may be older than the oldest kept event or, after a failover, newer than all. */
  async resume(lastId: string | undefined): Promise<void> {
    if (lastId === undefined) return;
    this.cursor = lastId;
    this.seq = undefined;
    const kept = await this.executions.keptEventIds(this.executionId);
    if (kept === undefined) return;
    const isNewer = isAfter(lastId, kept.last);
    if (isNewer) this.cursor = kept.last;
    if (isNewer || isAfter(kept.first, lastId)) await this.reset(kept.first);
  }

  /** False when the client is gone, or too slow. */
  async send(events: readonly BelayEvent[]): Promise<boolean> {
    for (const event of events) {
      // An event that cannot be read has no number of its own.
      const seq = event.seq === 0 && this.seq !== undefined ? this.seq + 1 : event.seq;
      if (this.seq !== undefined && seq > this.seq + 1) await this.reset(event.id);
      if (!this.stream.send('event', event, event.id) || !(await this.stream.drained())) return false;
      this.cursor = event.id;
      this.seq = seq;
    }
    return true;
  }

  private async reset(oldest: string): Promise<void> {
    this.stream.send('reset', { snapshot: await this.executions.get(this.executionId), oldest });
  }
}
