import { parseAgentId, type DispatchEntry, type NodeSpec, type StopReason } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import type { AgentOutcome, Fence, FinishResult, LifecycleService } from '#libs/lifecycle';
import { Subject, type Observable } from 'rxjs';
import { retryVerdict } from './retry-policy';

/** An execution whose live agents must be stopped by an order. */
export interface StopNeeded {
  readonly executionId: string;
  readonly reason: StopReason;
  readonly by: string;
}

/**
 * Moves executions on. Whoever runs a script that makes nodes ready hands them over at once: a node starts as soon
 * as its own dependencies are done, with no pass over the graph and no process in between (R36).
 */
export class DagExecutor {
  private readonly stops = new Subject<StopNeeded>();

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly queues: AgentQueues,
  ) {}

  /** The killswitch places an order for each; a janitor repeats what nobody heard. */
  get stopNeeded$(): Observable<StopNeeded> {
    return this.stops;
  }

  requestStop(stop: StopNeeded): void {
    this.stops.next(stop);
  }

  /** Hands over what is ready and does what is left to do by itself, in bounded steps. */
  async drive(executionId: string, entries: readonly DispatchEntry[] = [], more = true): Promise<void> {
    await this.queues.dispatch(entries);
    for (let again = more; again;) {
      const step = await this.lifecycle.executions.advance(executionId);
      await this.queues.dispatch(step.entries);
      again = step.more;
    }
  }

  /** Stores an attempt's end with the retry its policy gives it, then drives on what it opened. */
  async finish(fence: Fence, outcome: AgentOutcome, node: NodeSpec): Promise<FinishResult> {
    const parsed = parseAgentId(fence.agentId);
    const executionId = parsed?.executionId ?? '';
    const verdict =
      outcome.state === 'failed'
        ? retryVerdict(node, parsed?.attempt ?? 1, outcome.error?.code, Math.random())
        : undefined;
    const result = await this.lifecycle.agents.finish(fence, { ...outcome, ...verdict });
    if (result.stopNeeded) {
      this.requestStop({
        executionId,
        reason: outcome.state === 'killed' ? 'killswitch' : 'error',
        by: 'belay',
      });
    }
    // What follows is repaired by the janitor if it fails here; the outcome itself is stored.
    await this.drive(executionId, result.entries, result.more).catch(() => undefined);
    return result;
  }
}
