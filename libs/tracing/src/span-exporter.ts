import { encodeSpans, type Resource } from './encode-otlp';
import type { Span } from './span';

export interface ExporterOptions extends Resource {
  /** The collector's base URL. */
  readonly endpoint: string;
  readonly onTrouble: (message: string) => void;
  /** For tests. Default 1 s. */
  readonly flushMs?: number;
}

/** Spans that wait. Further ones are dropped. */
export const MOST_WAITING = 4_096;
/** Spans of one request. */
const BATCH = 512;
const FLUSH_MS = 1_000;
/** A collector that takes longer is given up for this batch. Milliseconds. */
const REQUEST_MS = 5_000;

/**
 * Sends spans to a collector, in batches, one request at a time. It never waits for room and never tries again: spans that find
 * no room, and batches that are not taken, are counted as dropped. The first failure after a success is reported.
 */
export class SpanExporter {
  /** Since the start. */
  sent = 0;
  dropped = 0;
  private waiting: Span[] = [];
  private timer: NodeJS.Timeout | undefined;
  private sending: Promise<void> | undefined;
  private readonly closing = new AbortController();
  private isFailing = false;
  private readonly url: string;

  constructor(private readonly options: ExporterOptions) {
    this.url = `${options.endpoint.replace(/\/+$/, '')}/v1/traces`;
  }

  add(spans: readonly Span[]): void {
    const room = this.closing.signal.aborted ? 0 : MOST_WAITING - this.waiting.length;
    this.waiting.push(...spans.slice(0, room));
    this.drop(Math.max(0, spans.length - room));
    this.schedule();
  }

  /** Counts spans that could not be made. */
  drop(count: number): void {
    this.dropped += count;
  }

  /** Sends what waits, within `boundMs`; the rest is dropped. */
  async close(boundMs: number): Promise<void> {
    clearTimeout(this.timer);
    const limit = setTimeout(() => this.closing.abort(), boundMs);
    try {
      do await this.flush();
      while (this.waiting.length > 0 && !this.closing.signal.aborted);
    } finally {
      clearTimeout(limit);
      this.closing.abort();
      this.drop(this.waiting.length);
      this.waiting = [];
    }
  }

  private schedule(): void {
    if (this.timer !== undefined || this.waiting.length === 0) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.flush().then(() => this.schedule());
    }, this.options.flushMs ?? FLUSH_MS);
    this.timer.unref();
  }

  /** One batch. Calls at the same time share the one under way. Never rejects. */
  private async flush(): Promise<void> {
    this.sending ??= this.send(this.waiting.splice(0, BATCH)).finally(() => (this.sending = undefined));
    await this.sending;
  }

  private async send(batch: readonly Span[]): Promise<void> {
    if (batch.length === 0) return;
    try {
      const response = await fetch(this.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: encodeSpans(this.options, batch),
        redirect: 'error',
        signal: AbortSignal.any([this.closing.signal, AbortSignal.timeout(REQUEST_MS)]),
      });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`it answered ${response.status}`);
      this.sent += batch.length;
      this.isFailing = false;
    } catch (error) {
      this.drop(batch.length);
      if (this.isFailing) return;
      this.isFailing = true;
      this.options.onTrouble(
        `The collector of traces at ${this.url} takes no spans: ${reasonOf(error)}. They are dropped and counted until it does; check BELAY_OTLP_ENDPOINT`,
      );
    }
  }
}

/** `fetch` hides the reason of a connection that failed in the cause. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  const deeper = cause as NodeJS.ErrnoException | undefined;
  return deeper?.code ?? deeper?.message ?? message;
}
