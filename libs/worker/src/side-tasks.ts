import { Subject, type Observable } from 'rxjs';

/** A worker's task beside its heartbeat. */
export interface SideTask {
  readonly name: string;
  /** One run. It must be repeatable, since a run past its limit is left behind and the next one begins. */
  readonly run: (signal: AbortSignal) => Promise<unknown>;
  /** Least time between the beginnings of two runs. Milliseconds; default 0. */
  readonly everyMs?: number;
}

/** How one run went. */
export interface SideRun {
  readonly task: string;
  readonly tookMs: number;
  readonly end: 'done' | 'failed' | 'overran';
}

/** Longest a run may take before it is left behind. Milliseconds. */
export const SIDE_TASK_LIMIT_MS = 5_000;
/** Runs of one task left behind and not over yet. With so many of them the task waits for one to end. */
const MOST_LEFT = 3;

/**
 * The work that goes on beside a worker's heartbeat: each task has its own loop, one run at a time and a bound on each run.
 * A task that hangs delays neither the heartbeat nor another task. Each acknowledged heartbeat wakes them.
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
            this.onError(new Error(`${task.name} took longer than ${limitMs} ms; left behind`), task.name);
          else if (error !== undefined) this.onError(error, task.name);
        }),
    );
  }

  /** Every run, for metrics. */
  get runs$(): Observable<SideRun> {
    return this.runs;
  }

  /** Begins a run of every task that is due and not under way. One that is under way is run again after it. */
  wake(): void {
    for (const loop of this.loops) loop.wake();
  }

  /** Makes a task due, however lately it ran. */
  hurry(name: string): void {
    for (const loop of this.loops) if (loop.name === name) loop.hurry();
  }

  /** No run begins any more, and those under way are told. */
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
  /** Of the last run, by a monotonic clock; none: due at once. */
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
    // A function that throws before it gives a promise fails like one that rejects.
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
