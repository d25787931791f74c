import { Inject, Injectable } from '@nestjs/common';
import type { AgentJob, AgentMessage } from '#libs/contracts';
import { LifecycleService, type Fence } from '#libs/lifecycle';
import { Subject, type Observable } from 'rxjs';
import type { AgentEnded, Granted, HoldResult, RunnerOptions } from './agent-runner.types';
import { RUNNER_OPTIONS } from './tokens';
import { AgentSlot, type StopCause } from './agent-slot';
import { untilAnswered } from './until-answered';

/** A message of an agent, and the claim of its attempt. */
export interface AgentSaid {
  readonly message: AgentMessage;
  readonly claim: Granted;
}

/**
 * The attempts of one worker: each is here from before its claim until its outcome is stored, so an order finds it at any time.
 * It needs nothing of the runner that fills it, so that the ports of the runner can be made from it.
 */
@Injectable()
export class AgentSlots {
  private readonly slots = new Set<AgentSlot>();
  private readonly ends = new Subject<AgentEnded>();
  private readonly messages = new Subject<AgentSaid>();
  private idle: (() => void)[] = [];

  constructor(
    @Inject(LifecycleService) private readonly lifecycle: Pick<LifecycleService, 'agents'>,
    @Inject(RUNNER_OPTIONS)
    private readonly options: Pick<RunnerOptions, 'workerId' | 'graceMs' | 'onError' | 'closing'>,
  ) {}

  /** Attempts under way, from before their claim until their outcome is stored. */
  get busy(): number {
    return this.slots.size;
  }

  /** Every end, proved or not. The killswitch writes receipts from it. */
  get ended$(): Observable<AgentEnded> {
    return this.ends;
  }

  /** Every message of an agent as it arrives, beside its storing. A subscriber must not throw. */
  get messages$(): Observable<AgentSaid> {
    return this.messages;
  }

  agentIds(): string[] {
    return [...this.slots].map((slot) => slot.agentId);
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

  /** Takes a new attempt in, before its claim. */
  open(job: AgentJob): AgentSlot {
    const slot = new AgentSlot(job, this.options.workerId);
    this.slots.add(slot);
    return slot;
  }

  /** The attempt's outcome is stored, or the attempt is not this worker's. */
  close(slot: AgentSlot): void {
    slot.close();
    this.slots.delete(slot);
    if (this.slots.size === 0) for (const resolve of this.idle.splice(0)) resolve();
  }

  hasEnded(ended: AgentEnded): void {
    this.ends.next(ended);
  }

  hasSaid(said: AgentSaid): void {
    this.messages.next(said);
  }
}
