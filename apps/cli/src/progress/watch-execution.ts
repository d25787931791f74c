import { EXECUTION_MACHINE, isEnded, type BelayEvent, type ExecutionRecord } from '#libs/contracts';
import { describePause } from '../execution/describe-pause';
import { findWaiting } from '../execution/find-waiting';
import { describeWaiting } from '../execution/waiting';
import { EXIT, exitCodeOfState, type ExitCode } from '../exit-codes';
import type { Session } from '../session/session';
import { ExecutionProgress } from './execution-progress';
import { openDisplay } from './progress-display';
import { renderEnd } from './render-progress';

/** The interval of redraws on a terminal, and the shortest between two reads of the record. Milliseconds. */
const REDRAW_MS = 200;
const READ_EVERY_MS = 500;
/** Without a terminal the record is read only for a line. */
const READ_EVERY_CALM_MS = 2_000;
/** Without any event the record is read at this interval: cost grows between events. */
const READ_IDLE_MS = 5_000;
const AGENTS_READ = 100;

export interface WatchOptions {
  /** Ends the watch before the execution's end; `up` aborts it when it drains. */
  readonly signal?: AbortSignal;
  /** The watch leaves out events before this epoch: they belong to the run before a retry. */
  readonly fromEpoch?: number;
  /** Whether this watch handles Ctrl-C. Default true. */
  readonly takesSignals?: boolean;
}

/**
 * Follows an execution to its end and shows its progress. The first Ctrl-C detaches, the second ends the process at once.
 * Resolves with the exit code of the end, or that of an interrupt.
 */
export async function watchExecution(
  session: Session,
  first: ExecutionRecord,
  options: WatchOptions = {},
): Promise<ExitCode> {
  const watch = new Watch(session, first, options.fromEpoch);
  const release = options.takesSignals === false ? () => undefined : takeSignals(session, first.id, watch);
  const leave = (): void => watch.leave();
  options.signal?.addEventListener('abort', leave, { once: true });
  session.process.outputClosed.addEventListener('abort', leave, { once: true });
  try {
    const record = await watch.toItsEnd();
    if (record === undefined) return EXIT.interrupted;
    if (session.isJson) session.json({ execution: record });
    else for (const line of renderEnd(record, session.out)) session.print(line);
    return exitCodeOfState(record.state);
  } finally {
    release();
    options.signal?.removeEventListener('abort', leave);
    session.process.outputClosed.removeEventListener('abort', leave);
  }
}

function takeSignals(session: Session, id: string, watch: Watch): () => void {
  let count = 0;
  return session.process.onSignal(() => {
    count++;
    if (count > 1) return session.process.exit(EXIT.interrupted);
    watch.leave();
    session.note(`Detached. ${id} runs on. Follow it: belay watch ${id}`);
    session.note(`Stop it: belay stop ${id}`);
  });
}

class Watch {
  private readonly leaving = new AbortController();
  private readonly display: ReturnType<typeof openDisplay>;
  private readonly progress: ExecutionProgress;
  private readonly readEveryMs: number;
  private isDirty = true;
  private readAt = -Infinity;
  private reading: Promise<void> | undefined;
  /** The last reported reason why no agent of the execution runs. */
  private told = '';

  constructor(
    private readonly session: Session,
    first: ExecutionRecord,
    /** Undefined once it has begun. */
    private fromEpoch?: number,
  ) {
    this.display = openDisplay(session);
    this.progress = new ExecutionProgress(first);
    this.readEveryMs = session.process.stderr.isTTY ? READ_EVERY_MS : READ_EVERY_CALM_MS;
  }

  /** The server has closed the stream, since the execution waits for a signal. */
  private isSuspended = false;

  leave(): void {
    this.leaving.abort();
    this.display.close();
  }

  /** The final record; undefined when the watch ended before. */
  async toItsEnd(): Promise<ExecutionRecord | undefined> {
    const { client, isJson } = this.session;
    const { id } = this.progress.record;
    if (isEnded(EXECUTION_MACHINE, this.progress.record.state)) return await this.readFinal(id);
    // Progress is drawn by time and not by event: ten thousand events a second are still five frames.
    const timer = isJson ? undefined : setInterval(() => this.tick(), REDRAW_MS);
    try {
      if (!isJson) await this.seed(id);
      const events = client.events(id, {
        signal: this.leaving.signal,
        onReconnect: ({ delayMs }) => {
          if (!this.isSuspended) this.display.say(`connection lost; next try in ${delayMs} ms`);
        },
        onSuspended: () => {
          if (!this.isSuspended) this.display.say(`suspended until a signal comes: belay signal ${id} NAME`);
          this.isSuspended = true;
        },
        onReset: () => {
          // The server no longer has all events: the beginning of the run may be missing.
          this.fromEpoch = undefined;
          void this.seed(id).catch(() => undefined);
        },
      });
      for await (const event of events) {
        this.isSuspended = false;
        if (this.isBefore(event)) continue;
        if (isJson) this.session.json(event);
        const ended = this.progress.apply(event, Date.now());
        if (ended !== undefined) this.display.nodeEnded(ended);
        this.isDirty = true;
      }
      await this.reading;
      return this.leaving.signal.aborted ? undefined : await this.readFinal(id);
    } finally {
      clearInterval(timer);
      this.display.close();
    }
  }

  /** Events come from the first one on, also those of a run before a retry. */
  private isBefore({ type, data }: BelayEvent): boolean {
    if (this.fromEpoch === undefined) return false;
    const { epoch = 0 } = (data ?? {}) as { readonly epoch?: number };
    if (type !== 'execution.running' || epoch < this.fromEpoch) return true;
    this.fromEpoch = undefined;
    return false;
  }

  private async seed(id: string): Promise<void> {
    const { items } = await this.session.client.agents({
      executionId: id,
      state: ['running'],
      limit: AGENTS_READ,
    });
    this.progress.running.clear();
    this.progress.seed(items);
  }

  private tick(): void {
    if (this.leaving.signal.aborted) return;
    const age = performance.now() - this.readAt;
    const isDue = age >= READ_IDLE_MS || (this.isDirty && age >= this.readEveryMs);
    if (isDue && this.reading === undefined) this.reading = this.read();
    this.display.update(this.progress);
  }

  private async read(): Promise<void> {
    this.isDirty = false;
    try {
      this.progress.record = await this.session.client.execution(this.progress.record.id, {
        signal: this.leaving.signal,
      });
      await this.tellWaiting(this.progress.record);
    } catch {
      // The stream of events reports a lost server, and gives up when it must.
      this.isDirty = true;
    } finally {
      this.readAt = performance.now();
      this.reading = undefined;
    }
  }

  /** Where no agent runs although one could, a line says why, once for each reason. */
  private async tellWaiting(record: ExecutionRecord): Promise<void> {
    const reasons = record.live === 0 ? await findWaiting(this.session.client, [record]) : undefined;
    const lines = describeWaiting(reasons?.get(record.id) ?? []);
    const pause = describePause(record);
    const text = [...(pause === undefined ? [] : [pause]), ...lines].join('\n');
    if (text === this.told || this.leaving.signal.aborted) return;
    this.told = text;
    if (text !== '') this.display.say(text);
  }

  private async readFinal(id: string): Promise<ExecutionRecord> {
    return await this.session.client.execution(id);
  }
}
