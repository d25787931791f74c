import { createHash } from 'node:crypto';
import { PRODUCERS_QUEUE } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { DelayedError, UnrecoverableError, type Job, type Worker } from 'bullmq';
import type { QueueOptions } from './agent-queues';
import { CalmWorker } from './calm-worker';
import { handBack } from './hand-back';

/** A job as a producer added it. */
export interface ProducedJob {
  /** Names this job for good: BullMQ gives an id again once a queue was emptied, but not with the same time. */
  readonly key: string;
  readonly data: unknown;
  /** How often it was taken up before. */
  readonly taken: number;
  report(progress: object): Promise<void>;
}

/** The outcome of a producer's job. */
export type JobVerdict =
  | { readonly done: object }
  /** Never again: the producer has to change it. */
  | { readonly failed: string }
  | { readonly waitMs: number }
  /** For another orchestrator: this one is going. */
  | 'hand-back';

/** Each is a promise waiting for an execution to end. */
const JOBS_AT_ONCE = 1_000;
/** How long a job that was handed back rests. Milliseconds. */
const HAND_BACK_MS = 300;
/** Jobs that rest and are waited for here; what is more is for BullMQ alone to bring back. */
const MOST_RESTING = 10_000;
/** Longest for jobs under way to be handed back. Milliseconds. */
const CLOSE_MS = 5_000;

/** The queue of producers in any language. BullMQ carries their specs; whether and when one starts is decided elsewhere. */
export class ProducersQueue {
  private worker: Worker | undefined;
  private readonly resting = new Set<NodeJS.Timeout>();

  constructor(
    private readonly valkey: Valkey,
    private readonly options: QueueOptions,
  ) {}

  /** Takes jobs until `close`. A job whose taker died is taken again: `handle` must be repeatable by `key`. */
  consume(handle: (job: ProducedJob) => Promise<JobVerdict>): void {
    if (this.worker !== undefined) return;
    this.worker = new CalmWorker(
      PRODUCERS_QUEUE,
      async (job, token) => this.settle(job, token, await handle(toProduced(job))),
      {
        connection: this.valkey.connections.create('blocking'),
        prefix: this.options.prefix,
        concurrency: JOBS_AT_ONCE,
        lockDuration: 10_000,
        stalledInterval: 5_000,
        // A job waits for its execution and may outlive many orchestrators; one that cannot even be read must not
        // come round for ever.
        maxStalledCount: 100,
      },
    );
    this.worker.on('error', () => undefined);
  }

  /** Takes no more. Resolves when those under way were settled; their handlers have to requeue them now. */
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

  private async settle(job: Job, token: string | undefined, verdict: JobVerdict): Promise<object> {
    // Not back to waiting: a worker that closes could take it once more, and go with it.
    if (verdict === 'hand-back') return handBack(job, token, this.after(HAND_BACK_MS));
    if ('failed' in verdict) throw new UnrecoverableError(verdict.failed);
    if ('done' in verdict) return verdict.done;
    try {
      return await handBack(job, token, this.after(verdict.waitMs));
    } catch (error) {
      if (error instanceof DelayedError) this.promoteAfter(job, verdict.waitMs);
      throw error;
    }
  }

  private after(ms: number): number {
    return this.valkey.clock.now() + ms;
  }

  /**
   * By this process's timer, since BullMQ compares the end of a rest with the wall clock of whichever machine looks: one that
   * is behind would leave the job there for as long. Should this process end before, those looks are what is left.
   */
  private promoteAfter(job: Job, ms: number): void {
    if (this.resting.size >= MOST_RESTING || this.worker?.closing !== undefined) return;
    const timer = setTimeout(() => {
      this.resting.delete(timer);
      // It may be back already, or gone.
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
    report: async (progress) => job.updateProgress(progress),
  };
}
