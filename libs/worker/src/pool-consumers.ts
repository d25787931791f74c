import { Inject, Injectable } from '@nestjs/common';
import { ownPoolOf, type AgentJob, type JobAnswer, type Latch } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import { AgentRunner } from '#libs/spawner';
import { BreakGlassLedger } from './break-glass-ledger';
import { LeaseKeeper } from './lease-keeper';
import { WORKER_OPTIONS, type WorkerOptions } from './worker-options';

type Consumer = ReturnType<AgentQueues['consume']>;

/** Agents of the worker's own pool at a time, for drills. */
const OWN_CONCURRENCY = 8;

/**
 * The queues from which one worker takes jobs. The claim script refuses every latched attempt. A queue that is latched as a
 * whole is also paused, so that its jobs wait in the queue instead of being taken and refused.
 */
@Injectable()
export class PoolConsumers {
  private readonly consumers = new Map<string, Consumer>();
  private readonly latched = new Set<string>();
  /** The version of the latches that was applied last. */
  version = 0;

  constructor(
    @Inject(AgentQueues) private readonly queues: Pick<AgentQueues, 'consume' | 'close'>,
    @Inject(AgentRunner) private readonly runner: Pick<AgentRunner, 'run' | 'waiting'>,
    @Inject(LeaseKeeper) private readonly lease: Pick<LeaseKeeper, 'isFenced'>,
    @Inject(BreakGlassLedger) private readonly ledger: Pick<BreakGlassLedger, 'holding'>,
    @Inject(WORKER_OPTIONS)
    private readonly options: Pick<WorkerOptions, 'workerId' | 'pools' | 'ownPools' | 'concurrency'>,
  ) {}

  /** The pools of the worker's record. Its own pool, for drills, is not among them. */
  get pools(): readonly string[] {
    return [...this.options.pools, ...this.options.ownPools.keys()];
  }

  /** Begins to take jobs. A job that comes while `isAdmitting` is false goes back to its queue. */
  open(isAdmitting: () => boolean): void {
    const { workerId, concurrency, ownPools } = this.options;
    const handle = async (job: AgentJob): Promise<JobAnswer> => {
      // Admission closes here first: a job in flight goes back to its queue.
      if (!isAdmitting() || this.lease.isFenced || this.ledger.holding) return 'refused';
      return this.runner.run(job);
    };
    for (const pool of this.pools)
      this.consumers.set(pool, this.queues.consume(pool, ownPools.get(pool) ?? concurrency, handle));
    // With slots of its own: a drill must not wait behind the agents that it checks.
    const own = ownPoolOf(workerId);
    this.consumers.set(own, this.queues.consume(own, OWN_CONCURRENCY, handle));
    this.runner.waiting.open();
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
    if (scope.type === 'worker') return scope.workerId === this.options.workerId;
    return scope.type === 'pool' && scope.pool === pool;
  }

  /** Ends the blocking waits for jobs at once; resolves when the jobs in hand are done. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.consumers.values()].map(async (consumer) => consumer.close()));
  }

  /** Ends the processes of handlers that wait for a job. */
  async closeWaiting(): Promise<void> {
    await this.runner.waiting.close();
  }

  /** Closes the connections of the queues. */
  async closeQueues(): Promise<void> {
    await this.queues.close();
  }
}
