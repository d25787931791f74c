import { Subject, type Observable } from 'rxjs';

/** A task that a worker runs beside its heartbeat. */
export interface SideTask {
  readonly name: string;
  /** One run. It must be repeatable: a run that exceeds its limit is abandoned, and the next one begins. */
  readonly run: (signal: AbortSignal) => Promise<unknown>;
  /** The least time between the starts of two runs. Milliseconds; default 0. */
  readonly everyMs?: number;
}

/** The outcome of one run. */
export interface SideRun {
  readonly task: string;
  readonly tookMs: number;
  readonly end: 'done' | 'failed' | 'overran';
}

/** A run may take this long before it is abandoned. Milliseconds. */
export const SIDE_TASK_LIMIT_MS = 5_000;
/** Abandoned runs of one task that have not ended. At this number the task waits until one ends. */
const MOST_LEFT = 3;

/**
 * The tasks that run beside a worker's heartbeat: each has its own loop, one run at a time, and a bound on each run. A task
 * that hangs delays neither the heartbeat nor another task. Each acknowledged heartbeat wakes them
 * (docs/architecture.md#leases-and-fencing).
 */
export class SideTasks {
  private readonly loops: readonly SideLoop[];
  private readonly runs = new Subject<SideRun>();

  constructor(
    tasks: readonly SideTask[],
    private readonly onError: (error: unknown, task: string) => void,
    limitMs = SIDE_TASK_LIMIT_MS,
  ) {
    this.loops = tasks.map(
      (task) =>
        new SideLoop(task, limitMs, (run, error) => {
          this.runs.next(run);
          if (run.end === 'overran')
            this.onError(
              new Error(`${task.name} took longer than ${limitMs} ms; the worker goes on without it`),
              task.name,
            );
          else if (error !== undefined) this.onError(error, task.name);
        }),
    );
  }

  /** Emits every run, for metrics. */
  get runs$(): Observable<SideRun> {
    return this.runs;
  }

  /** Begins a run of every task that is due and not under way. A task that is under way runs again afterwards. */
  wake(): void {
    for (const loop of this.loops) loop.wake();
  }

  /** Makes a task due, even if it ran just now. */
  hurry(name: string): void {
    for (const loop of this.loops) if (loop.name === name) loop.hurry();
  }

  /** Begins no run any more, and aborts those under way. */
  stop(): void {
    for (const loop of this.loops) loop.stop();
    this.runs.complete();
  }
}

class SideLoop {
  private under = false;
  private again = false;
  private left = 0;
  private stopped = false;
  /** The monotonic start of the last run; undefined: the task is due at once. */
  private lastAt: number | undefined;
  private abort = new AbortController();

  constructor(
    private readonly task: SideTask,
    private readonly limitMs: number,
    private readonly onRun: (run: SideRun, error?: unknown) => void,
  ) {}

  get name(): string {
    return this.task.name;
  }

  wake(): void {
    if (this.under) {
      this.again = true;
      return;
    }
    const { lastAt } = this;
    const isDue = lastAt === undefined || performance.now() - lastAt >= (this.task.everyMs ?? 0);
    if (isDue && !this.stopped && this.left < MOST_LEFT) void this.runOnce();
  }

  hurry(): void {
    this.lastAt = undefined;
  }

  stop(): void {
    this.stopped = true;
    this.abort.abort();
  }

  private async runOnce(): Promise<void> {
    this.under = true;
    const begunAt = (this.lastAt = performance.now());
    this.abort = new AbortController();
    const { signal } = this.abort;
    // `async` makes a synchronous throw a rejection.
    const work = (async () => this.task.run(signal))().then(
      () => ({ end: 'done' as const, error: undefined }),
      (error: unknown) => ({ end: 'failed' as const, error }),
    );
    const limit = setTimeout(() => this.abort.abort(), this.limitMs);
    const result = await Promise.race([work, aborted(signal)]);
    clearTimeout(limit);
    if (result === undefined) {
      this.left++;
      void work.then(() => this.left--);
    }
    const tookMs = performance.now() - begunAt;
    if (!this.stopped) this.onRun({ task: this.name, tookMs, end: result?.end ?? 'overran' }, result?.error);
    this.under = false;
    if (!this.again) return;
    this.again = false;
    this.wake();
  }
}

const aborted = async (signal: AbortSignal): Promise<undefined> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
