import type { Valkey } from '#libs/valkey';
import { Queue, type Worker } from 'bullmq';
import type { QueueOptions } from './agent-queues';
import { ThrottledWorker } from './throttled-worker';

export interface CronScheduleOptions extends QueueOptions {
  /** The name of the BullMQ queue that carries the turns. */
  readonly queue: string;
  readonly onError: (error: unknown) => void;
}

/** One scheduler for each queue. Its name is stored, so it must not change. */
const SCHEDULER = 'drill';
/** A turn that takes longer counts as lost; it is not run twice. Milliseconds. */
const LOCK_MS = 120_000;

/**
 * Runs an act by a cron expression. BullMQ keeps the schedule and gives each turn to one process, however many there are. The
 * last process to start sets the expression.
 */
export class CronSchedule {
  private queue: Queue | undefined;
  private worker: Worker | undefined;

  constructor(
    private readonly valkey: Valkey,
    private readonly options: CronScheduleOptions,
  ) {}

  /** Sets the expression (UTC) and takes turns until `close`. Undefined removes the stored schedule. */
  async start(cron: string | undefined, act: () => Promise<void>): Promise<void> {
    const { prefix, queue: name, onError } = this.options;
    this.queue = new Queue(name, { connection: this.valkey.connections.create('blocking'), prefix });
    this.queue.on('error', onError);
    if (cron === undefined) {
      await this.queue.removeJobScheduler(SCHEDULER);
      return;
    }
    await this.queue.upsertJobScheduler(
      SCHEDULER,
      { pattern: cron, tz: 'UTC' },
      { name: SCHEDULER, opts: { removeOnComplete: true, removeOnFail: true } },
    );
    this.worker = new ThrottledWorker(name, act, {
      connection: this.valkey.connections.create('blocking'),
      prefix,
      concurrency: 1,
      lockDuration: LOCK_MS,
      maxStalledCount: 0,
    });
    this.worker.on('error', onError);
  }

  /** Takes no more turns; one under way runs to its end. */
  async close(): Promise<void> {
    await Promise.allSettled([this.worker?.close(true), this.queue?.close()]);
  }
}
