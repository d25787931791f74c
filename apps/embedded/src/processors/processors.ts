import { JobConsumer } from '#libs/dispatch';
import { ExecutionFollower, ProcessorConsumer, type ExecutionManager } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import type { DeclaredProcessor } from './declared-processor';

/** The killable processors of one application. */
export class Processors {
  private intakes: ProcessorConsumer[] = [];
  private readonly follower: ExecutionFollower;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly manager: ExecutionManager,
    changes: ChangeFeed,
    private readonly prefix: string,
  ) {
    this.follower = new ExecutionFollower(lifecycle, changes);
  }

  start(declared: readonly DeclaredProcessor[]): void {
    if (declared.length === 0) return;
    this.follower.start();
    const { lifecycle, manager, follower, prefix } = this;
    this.intakes = declared.map(({ concurrency, ...options }) => {
      const consumer = new JobConsumer(lifecycle.valkey, { prefix, queue: options.queue, concurrency });
      return new ProcessorConsumer(consumer, manager, follower, lifecycle, options);
    });
    for (const intake of this.intakes) intake.start();
  }

  /** Requeues the jobs in hand. */
  async stop(): Promise<void> {
    await Promise.all(this.intakes.map(async (intake) => intake.stop()));
    this.follower.stop();
  }
}
