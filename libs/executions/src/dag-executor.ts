import type { DispatchEntry, StopReason } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { Subject, type Observable } from 'rxjs';

/** An execution whose live agents must be stopped by an order. */
export interface StopNeeded {
  readonly executionId: string;
  readonly reason: StopReason;
  readonly by: string;
}

/**
 * Advances executions. The process whose script call makes nodes ready hands them over at once. So a node starts as soon as its
 * own dependencies are done, with no pass over the graph and no other process in between
 * (docs/architecture.md#the-life-of-an-execution).
 */
export class DagExecutor {
  private readonly stops = new Subject<StopNeeded>();

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly queues: AgentQueues,
  ) {}

  /** The killswitch places an order for each. A janitor repeats those that nobody heard. */
  get stopNeeded$(): Observable<StopNeeded> {
    return this.stops;
  }

  requestStop(stop: StopNeeded): void {
    this.stops.next(stop);
  }

  /** Hands over ready nodes and takes the steps that are left in the execution, in bounded steps. */
  async drive(executionId: string, entries: readonly DispatchEntry[] = [], more = true): Promise<void> {
    await this.queues.dispatch(entries);
    for (let again = more; again;) {
      const step = await this.lifecycle.executions.advance(executionId);
      await this.queues.dispatch(step.entries);
      await this.queues.drop(step.dropped, step.limited);
      again = step.more;
    }
  }
}
