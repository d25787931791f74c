import type { Latch } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';

type Consumer = ReturnType<AgentQueues['consume']>;

/**
 * The queues from which one worker takes jobs. The claim script refuses every latched attempt. A queue that is latched as a
 * whole is also paused, so that its jobs wait in the queue instead of being taken and refused.
 */
export class PoolConsumers {
  private readonly consumers = new Map<string, Consumer>();
  private readonly latched = new Set<string>();
  /** The version of the latches that was applied last. */
  version = 0;

  constructor(private readonly workerId: string) {}

  add(pool: string, consumer: Consumer): void {
    this.consumers.set(pool, consumer);
  }

  /** Pools from which the worker takes no job because of a latch or a freeze. */
  get closed(): string[] {
    return [...this.latched];
  }

  /** Pauses the queues that are latched as a whole, and resumes the others. Repeatable. */
  async apply(version: number, latches: readonly Latch[]): Promise<void> {
    for (const [pool, consumer] of this.consumers) {
      const close = latches.some((latch) => this.coversQueue(latch, pool));
      if (close === this.latched.has(pool)) continue;
      if (close) {
        this.latched.add(pool);
        await consumer.pause(true);
      } else {
        this.latched.delete(pool);
        await consumer.resume();
      }
    }
    this.version = version;
  }

  private coversQueue({ scope }: Latch, pool: string): boolean {
    if (scope.type === 'all') return true;
    if (scope.type === 'worker') return scope.workerId === this.workerId;
    return scope.type === 'pool' && scope.pool === pool;
  }

  /** Ends the blocking waits for jobs at once; resolves when the jobs in hand are done. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.consumers.values()].map(async (consumer) => consumer.close()));
  }
}
