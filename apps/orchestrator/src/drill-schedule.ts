import { CronSchedule } from '#libs/dispatch';
import type { DrillService } from '#libs/killswitch';
import type { Valkey } from '#libs/valkey';

/** Injection token of how old a passed drill may be: `{ ms }`, undefined without a schedule. */
export const DRILL_MAX_AGE = 'DRILL_MAX_AGE';

const QUEUE = 'belay-drills';
/** How often drills are looked for that nobody will finish. Milliseconds. */
const LOOK_MS = 30_000;

/** Drills every worker by a cron expression, in one orchestrator a turn, however many there are. */
export class DrillSchedule {
  private readonly schedule: CronSchedule;
  private look: NodeJS.Timeout | undefined;

  constructor(
    valkey: Valkey,
    private readonly drills: DrillService,
    private readonly options: {
      readonly prefix: string;
      readonly cron: string | undefined;
      /** Leave the schedule to other orchestrators: neither set it nor take it off. */
      readonly leave: boolean;
      readonly onError: (error: unknown) => void;
    },
  ) {
    const { prefix, onError } = options;
    this.schedule = new CronSchedule(valkey, { queue: QUEUE, prefix, onError });
  }

  async start(): Promise<void> {
    const { cron, leave, onError } = this.options;
    // With and without a schedule: a drill asked for by hand may lose its orchestrator too.
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
