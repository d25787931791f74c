import type { AgentJob, Dropped, ExitReport, JobAnswer } from '#libs/contracts';
import type { Claim, Fence, LifecycleService } from '#libs/lifecycle';
import { Subject, type Observable } from 'rxjs';
import { isFenced, NOT_STARTED } from './agent-outcome';
import type { AgentEnded, HoldResult, RunnerOptions } from './agent-runner.types';
import { AgentSlot, type StopCause } from './agent-slot';
import { Attempt, type AttemptMeans } from './attempt';
import { AttemptClaims } from './attempt-claims';
import { OutcomeKeeper } from './outcome-keeper';
import type { ProcessHost } from './process';
import { untilAnswered } from './until-answered';
import { WaitingPool } from './waiting-pool';

/**
 * Runs attempts: claim (`AttemptClaims`), spawn, report, end (`Attempt`), outcome (`OutcomeKeeper`). One per worker process.
 * Every attempt is in its slots from before its claim until its outcome is stored, so an order finds it there at any time.
 */
export class AgentRunner {
  private readonly slots = new Set<AgentSlot>();
  private readonly ends = new Subject<AgentEnded>();
  private idle: (() => void)[] = [];
  private readonly claims: AttemptClaims;
  private readonly means: AttemptMeans;
  /** Processes that wait for attempts of handlers. The worker opens and closes the pool. */
  readonly waiting: WaitingPool;

  constructor(
    private readonly lifecycle: LifecycleService,
    host: ProcessHost,
    private readonly options: RunnerOptions,
  ) {
    this.claims = new AttemptClaims(lifecycle.agents, options, (agentId) =>
      this.slotsWhere((slot) => slot.agentId === agentId && slot.claimedAt !== undefined),
    );
    this.waiting = new WaitingPool(host, options.ahead, options);
    this.means = {
      lifecycle,
      host,
      waiting: this.waiting,
      options,
      keeper: new OutcomeKeeper(lifecycle.agents, options),
      onEnded: (ended) => this.ends.next(ended),
      onDropped: (what, count) => (this.dropped[what] = (this.dropped[what] ?? 0) + count),
    };
  }

  /** Claims that a latch refused. */
  refused = 0;

  /** Output of agents beyond their bounds, counted since the start. */
  readonly dropped: { -readonly [K in keyof Dropped]: Dropped[K] } = {};

  /** Attempts under way, from before their claim until their outcome is stored. */
  get busy(): number {
    return this.slots.size;
  }

  /** Every end, proved or not. The killswitch writes receipts from it. */
  get ended$(): Observable<AgentEnded> {
    return this.ends;
  }

  agentIds(): string[] {
    return [...this.slots].map((slot) => slot.agentId);
  }

  /** Whether the guardian ended that tree, and not a stop by this worker. */
  wasFenced(exit: Pick<ExitReport, 'signal' | 'report'>): boolean {
    return isFenced(exit, this.options);
  }

  /** Stops every attempt for which the predicate is true; returns their number. Begins at once, reads nothing. */
  stopWhere(matches: (slot: AgentSlot) => boolean, cause: StopCause): number {
    let count = 0;
    for (const slot of this.slots) {
      if (!matches(slot)) continue;
      slot.stop(cause, this.options.graceMs);
      count++;
    }
    return count;
  }

  slotsWhere(matches: (slot: AgentSlot) => boolean): AgentSlot[] {
    return [...this.slots].filter(matches);
  }

  /**
   * Freezes every attempt for which the predicate is true. Each result comes when the tree's processes were seen stopped. The
   * agent's record then names `orderId`.
   */
  freezeWhere(matches: (slot: AgentSlot) => boolean, hold: string, orderId?: string): Promise<HoldResult>[] {
    return [...this.slots]
      .filter(matches)
      .map(async (slot) => this.settleHold(slot, slot.freeze(hold), orderId));
  }

  /** Ends one hold of every attempt for which the predicate is true. A tree goes on when no hold of it is left. */
  thawWhere(matches: (slot: AgentSlot) => boolean, hold: string): Promise<HoldResult>[] {
    return [...this.slots].filter(matches).map(async (slot) => this.settleHold(slot, slot.thaw(hold)));
  }

  private async settleHold(slot: AgentSlot, done: Promise<void>, orderId?: string): Promise<HoldResult> {
    try {
      await done;
      const { fence } = slot;
      if (fence !== undefined) await slot.tell(async () => this.markFrozen(slot, fence, orderId));
      return { slot, frozen: slot.isStill };
    } catch (error) {
      return {
        slot,
        frozen: slot.isStill,
        error: error instanceof Error ? error : new Error(String(error)),
      };
    }
  }

  /** Repeated until there is an answer: nothing else corrects a record that says frozen of a tree that runs. */
  private async markFrozen(slot: AgentSlot, fence: Fence, orderId: string | undefined): Promise<void> {
    await untilAnswered(
      this.options,
      slot.agentId,
      async () => this.lifecycle.agents.markFrozen(fence, slot.isStill, orderId),
      () => !this.slots.has(slot),
    );
  }

  /** Resolves when no attempt is under way. */
  async whenIdle(): Promise<void> {
    if (this.slots.size > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  /**
   * Runs one job: claims its attempt, or leaves it. Resolves when the outcome is stored. `refused`: another worker may take the
   * attempt, and this one may not (a latch over this worker, its lease is over, or it drains and got no answer).
   */
  async run(job: AgentJob): Promise<JobAnswer> {
    const slot = new AgentSlot(job, this.options.workerId);
    this.slots.add(slot);
    try {
      const claim = await this.claims.claimOnce(slot);
      if (claim === undefined) return 'refused';
      if (claim.claimed) {
        await new Attempt(this.means, slot, claim).run();
        return 'done';
      }
      return await this.answerRefusal(slot, claim);
    } catch (error) {
      this.options.onError?.(error, job.agentId);
      throw error;
    } finally {
      slot.close();
      this.slots.delete(slot);
      if (this.slots.size === 0) for (const resolve of this.idle.splice(0)) resolve();
    }
  }

  private async answerRefusal(slot: AgentSlot, { why, latch, limit, state }: Refused): Promise<JobAnswer> {
    if (why === 'GONE') return 'refused';
    if (why === 'LATCHED') {
      this.refused++;
      return latch?.scope.type === 'worker' ? 'refused' : 'parked';
    }
    if (why === 'LIMITED') return limit === undefined ? 'refused' : 'limited';
    // Our claim was granted, but the attempt ended before the reply arrived. Only this worker knows that nothing started.
    if (why === 'ENDED') {
      const { agents } = this.lifecycle;
      await untilAnswered(this.options, slot.agentId, async () =>
        agents.prove(slot.agentId, this.options.workerId, NOT_STARTED),
      );
    }
    return state === 'paused' ? 'parked' : 'done';
  }
}

type Refused = Extract<Claim, { claimed: false }>;
