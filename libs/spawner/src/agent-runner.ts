import { Inject, Injectable } from '@nestjs/common';
import type { AgentJob, Dropped, JobAnswer } from '#libs/contracts';
import { LifecycleService, type Claim } from '#libs/lifecycle';
import { NOT_STARTED } from './agent-outcome';
import type { RunnerOptions } from './agent-runner.types';
import type { AgentSlot } from './agent-slot';
import { AgentSlots } from './agent-slots';
import { Attempt, type AttemptMeans } from './attempt';
import { AttemptClaims } from './attempt-claims';
import { OutcomeKeeper } from './outcome-keeper';
import type { ProcessHost } from './process';
import { RunnerPorts } from './runner-ports';
import { PROCESS_HOST, RUNNER_OPTIONS } from './tokens';
import { untilAnswered } from './until-answered';
import { WaitingPool } from './waiting-pool';

/**
 * Runs attempts: claim (`AttemptClaims`), spawn, report, end (`Attempt`), outcome (`OutcomeKeeper`). One per worker process.
 * Every attempt is in `AgentSlots` from before its claim until its outcome is stored.
 */
@Injectable()
export class AgentRunner {
  private readonly claims: AttemptClaims;
  private readonly means: AttemptMeans;
  /** Processes that wait for attempts of handlers. The worker opens and closes the pool. */
  readonly waiting: WaitingPool;

  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(PROCESS_HOST) host: ProcessHost,
    @Inject(AgentSlots) private readonly slots: AgentSlots,
    @Inject(RunnerPorts) ports: RunnerPorts,
    @Inject(RUNNER_OPTIONS) private readonly options: RunnerOptions,
  ) {
    this.claims = new AttemptClaims(lifecycle.agents, options, (agentId) =>
      slots.slotsWhere((slot) => slot.agentId === agentId && slot.claimedAt !== undefined),
    );
    this.waiting = new WaitingPool(host, options.ahead, options);
    this.means = {
      lifecycle,
      host,
      waiting: this.waiting,
      options,
      ports,
      keeper: new OutcomeKeeper(lifecycle.agents, ports.ends, options),
      slots,
      onDropped: (what, count) => (this.dropped[what] = (this.dropped[what] ?? 0) + count),
    };
  }

  /** Claims that a latch refused. */
  refused = 0;

  /** Output of agents beyond their bounds, counted since the start. */
  readonly dropped: { -readonly [K in keyof Dropped]: Dropped[K] } = {};

  /**
   * Runs one job: claims its attempt, or leaves it. Resolves when the outcome is stored. `refused`: another worker may take the
   * attempt, and this one may not (a latch over this worker, its lease is over, or it drains and got no answer).
   */
  async run(job: AgentJob): Promise<JobAnswer> {
    const slot = this.slots.open(job);
    try {
      const claim = await this.claims.claimOnce(slot);
      slot.answeredTooLate = isTooLate(claim);
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
      this.slots.close(slot);
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

/** An earlier try of the same claim may have been granted: the attempt ended since, or the worker's lease did. */
const isTooLate = (claim: Claim | undefined): boolean =>
  claim === undefined || (!claim.claimed && (claim.why === 'ENDED' || claim.why === 'GONE'));

type Refused = Extract<Claim, { claimed: false }>;
