import { createHash } from 'node:crypto';
import type { Valkey } from '#libs/valkey';
import { DelayedError, UnrecoverableError, type Job, type Worker } from 'bullmq';
import type { QueueOptions } from './agent-queues';
import { ThrottledWorker } from './throttled-worker';
import { requeue } from './requeue';

/** A job as its producer added it. */
export interface ProducedJob {
  /** Names this job for good: BullMQ reuses an id after a queue was emptied, but not with the same time. */
  readonly key: string;
  readonly data: unknown;
  /** How often it was taken before. */
  readonly taken: number;
  /** The job's fields of BullMQ. */
  readonly facts: JobFacts;
  report(progress: object): Promise<void>;
}

/** The fields of a job that do not change when it is taken again, until an attempt of it fails. */
export interface JobFacts {
  readonly id: string;
  readonly name: string;
  readonly opts: object;
  readonly timestamp: number;
  /** Attempts that failed before this one. */
  readonly attemptsMade: number;
}

/** The outcome of a job. */
export type JobVerdict =
  | { readonly done: unknown }
  /** The job has failed for good. */
  | { readonly failed: string }
  /** The job has failed, and is retried as its own `attempts` allow. */
  | { readonly error: Error }
  | { readonly waitMs: number }
  /** Another orchestrator must take the job: this one ends. */
  | 'requeue';

/** The delay of a requeued job. Milliseconds. */
const REQUEUE_MS = 300;
/** This process waits for at most this many delayed jobs; BullMQ alone brings the others back. */
const MOST_RESTING = 10_000;
/** Jobs under way must be requeued within this. Milliseconds. */
const CLOSE_MS = 5_000;

export interface ConsumerOptions extends QueueOptions {
  readonly queue: string;
  /** Jobs in hand at a time: each is a promise that waits for an execution to end. */
  readonly concurrency: number;
}

/**
 * Takes the jobs of one queue. BullMQ carries them, and other code decides whether and when one runs. So a job whose process
 * died, or whose lock was lost, is only taken again.
 */
export class JobConsumer {
  private worker: Worker | undefined;
  private readonly resting = new Set<NodeJS.Timeout>();

  constructor(
    private readonly valkey: Valkey,
    private readonly options: ConsumerOptions,
  ) {}

  /** Takes jobs until `close`. A job whose process died is taken again: `handle` must be repeatable by `key`. */
  consume(handle: (job: ProducedJob) => Promise<JobVerdict>): void {
    if (this.worker !== undefined) return;
    this.worker = new ThrottledWorker(
      this.options.queue,
      async (job, token) => this.settle(job, token, await handle(toProduced(job))),
      {
        connection: this.valkey.connections.create('blocking'),
        prefix: this.options.prefix,
        concurrency: this.options.concurrency,
        lockDuration: 10_000,
        stalledInterval: 5_000,
        // A job waits for its execution and may outlive many orchestrators. A job that cannot even be read must not be taken
        // for ever.
        maxStalledCount: 100,
      },
    );
    this.worker.on('error', () => undefined);
  }

  /** Takes no more jobs. Resolves when those under way were settled; their handlers must requeue them now. */
  async close(): Promise<void> {
    const { worker } = this;
    if (worker === undefined) return;
    for (const rest of this.resting) clearTimeout(rest);
    this.resting.clear();
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS);
    });
    await Promise.race([worker.close(), limit]);
    clearTimeout(timer);
  }

  private async settle(job: Job, token: string | undefined, verdict: JobVerdict): Promise<unknown> {
    // Not back to waiting: a worker that closes could take it once more, and end with it.
    if (verdict === 'requeue') return requeue(job, token, this.after(REQUEUE_MS));
    if ('failed' in verdict) throw new UnrecoverableError(verdict.failed);
    if ('error' in verdict) throw verdict.error;
    if ('done' in verdict) return verdict.done;
    try {
      return await requeue(job, token, this.after(verdict.waitMs));
    } catch (error) {
      if (error instanceof DelayedError) this.promoteAfter(job, verdict.waitMs);
      throw error;
    }
  }

  private after(ms: number): number {
    return this.valkey.clock.now() + ms;
  }

  /**
   * By this process's timer, since BullMQ would compare the end of a delay with the wall clock of any machine that looks: a
   * clock that is behind would delay the job by as much. If this process ends first, BullMQ's look remains.
   */
  private promoteAfter(job: Job, ms: number): void {
    if (this.resting.size >= MOST_RESTING || this.worker?.closing !== undefined) return;
    const timer = setTimeout(() => {
      this.resting.delete(timer);
      // The job may be back already, or gone.
      job.promote().catch(() => undefined);
    }, ms);
    this.resting.add(timer);
  }
}

function toProduced(job: Job): ProducedJob {
  return {
    key: `job-${createHash('sha256')
      .update(JSON.stringify([job.id, job.timestamp]))
      .digest('hex')
      .slice(0, 32)}`,
    data: job.data as unknown,
    taken: Math.max(0, job.attemptsStarted - 1),
    facts: {
      id: job.id ?? '',
      name: job.name,
      opts: job.opts,
      timestamp: job.timestamp,
      attemptsMade: job.attemptsMade,
    },
    report: async (progress) => job.updateProgress(progress),
  };
}
