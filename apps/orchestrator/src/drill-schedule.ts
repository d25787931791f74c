import { CalmWorker } from '#libs/dispatch';
import type { DrillService } from '#libs/killswitch';
import type { Valkey } from '#libs/valkey';
import { Queue, type Worker } from 'bullmq';

/** Injection token of how old a passed drill may be: `{ ms }`, undefined without a schedule. */
export const DRILL_MAX_AGE = 'DRILL_MAX_AGE';

const QUEUE = 'belay-drills';
const SCHEDULE = 'drill';
/** How often drills are looked for that nobody will finish. Milliseconds. */
const LOOK_MS = 30_000;

/**
 * Drills every worker by a cron expression. BullMQ keeps the schedule and hands each turn to one orchestrator, however
 * many there are; the last one to start sets the expression.
 */
export class DrillSchedule {
  private queue: Queue | undefined;
  private worker: Worker | undefined;
  private look: NodeJS.Timeout | undefined;

  constructor(
    private readonly valkey: Valkey,
    private readonly drills: DrillService,
    private readonly options: {
      readonly prefix: string;
      readonly cron: string | undefined;
      /** Leave the schedule to other orchestrators: neither set it nor take it off. */
      readonly leave: boolean;
      readonly onError: (error: unknown) => void;
    },
  ) {}

  async start(): Promise<void> {
    const { prefix, cron, leave, onError } = this.options;
    // With and without a schedule: a drill asked for by hand may lose its orchestrator too.
    this.look = setInterval(() => void this.drills.noticeUnfinished().catch(onError), LOOK_MS).unref();
    if (leave) return;
    this.queue = new Queue(QUEUE, { connection: this.valkey.connections.create('blocking'), prefix });
    this.queue.on('error', onError);
    if (cron === undefined) {
      await this.queue.removeJobScheduler(SCHEDULE);
      return;
    }
    await this.queue.upsertJobScheduler(
      SCHEDULE,
      { pattern: cron, tz: 'UTC' },
      { name: 'drill', opts: { removeOnComplete: true, removeOnFail: true } },
    );
    const drill = async (): Promise<void> => {
      await this.drills.run({ by: `schedule ${cron}` });
      await this.drills.prune();
    };
    this.worker = new CalmWorker(QUEUE, drill, {
      connection: this.valkey.connections.create('blocking'),
      prefix,
      concurrency: 1,
      // A drill takes seconds; one that was cut short is not run twice.
      lockDuration: 120_000,
      maxStalledCount: 0,
    });
    this.worker.on('error', onError);
  }

  async stop(): Promise<void> {
    clearInterval(this.look);
    await Promise.allSettled([this.worker?.close(true), this.queue?.close()]);
  }
}
