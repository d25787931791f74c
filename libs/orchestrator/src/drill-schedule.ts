import { Inject, Injectable } from '@nestjs/common';
import { CronSchedule } from '#libs/dispatch';
import { DrillService } from '#libs/killswitch';
import { Valkey } from '#libs/valkey';

/** The token of the DrillScheduleOptions. */
export const DRILL_SCHEDULE_OPTIONS = Symbol('belay.drill-schedule-options');

export interface DrillScheduleOptions {
  readonly prefix: string;
  readonly cron: string | undefined;
  /** Leaves the schedule to other orchestrators: neither sets nor removes it. */
  readonly leave: boolean;
  readonly onError: (error: unknown) => void;
}

const QUEUE = 'belay-drills';
/** The interval of looks for drills that nobody will finish. Milliseconds. */
const LOOK_MS = 30_000;

/** Drills every worker by a cron expression. Each turn runs in one orchestrator, however many there are. */
@Injectable()
export class DrillSchedule {
  private readonly schedule: CronSchedule;
  private look: NodeJS.Timeout | undefined;

  constructor(
    @Inject(Valkey) valkey: Valkey,
    @Inject(DrillService) private readonly drills: DrillService,
    @Inject(DRILL_SCHEDULE_OPTIONS) private readonly options: DrillScheduleOptions,
  ) {
    const { prefix, onError } = options;
    this.schedule = new CronSchedule(valkey, { queue: QUEUE, prefix, onError });
  }

  async start(): Promise<void> {
    const { cron, leave, onError } = this.options;
    // With and without a schedule: the orchestrator of a manual drill may die too.
    this.look = setInterval(() => void this.drills.noticeUnfinished().catch(onError), LOOK_MS).unref();
    if (leave) return;
    await this.schedule.start(cron, async () => {
      await this.drills.run({ by: `schedule ${cron}` });
      await this.drills.prune();
    });
  }

  async stop(): Promise<void> {
    clearInterval(this.look);
    await this.schedule.close();
  }
}
