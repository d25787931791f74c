import { within } from '#libs/service';
import type { AgentRunner, AgentSlot } from '#libs/spawner';

/** How often the drain looks for agents that it does not know yet: a claim under way may be granted. Milliseconds. */
const LOOK_AGAIN_MS = 1_000;

export interface DrainStopsOptions {
  /** How long agents may go on before they are stopped. Milliseconds. */
  readonly patienceMs: number;
  /** The fleet's grace. Milliseconds. */
  readonly graceMs: number;
  /** Called with each agent that is stopped before the patience ends. */
  readonly onEarly: (slot: AgentSlot, graceMs: number) => void;
}

/**
 * The stops of one drain. An agent gets the grace of any other stop: its node's, else its execution's, else the fleet's. The
 * drain's deadline does not move for it, which is the end of the patience and the fleet's grace: the programs that wait for
 * this worker count on it. So an agent with a longer grace gets the stop signal earlier (docs/cli.md#belay-worker).
 */
export class DrainStops {
  /** The agents that were stopped before the patience ended. */
  readonly early = new Set<AgentSlot>();
  private readonly patienceEndsAt: number;

  constructor(
    private readonly runner: Pick<AgentRunner, 'slotsWhere' | 'stopWhere' | 'whenIdle'>,
    private readonly options: DrainStopsOptions,
  ) {
    this.patienceEndsAt = performance.now() + options.patienceMs;
  }

  /** Resolves with true as soon as no attempt is left, and with false when the patience ends before. */
  async wait(): Promise<boolean> {
    const idle = this.runner.whenIdle().then(() => true);
    do {
      const leftMs = Math.max(0, this.patienceEndsAt - performance.now());
      const nextMs = leftMs === 0 ? 0 : this.stopDue(leftMs);
      // Whole milliseconds: a timer that is rounded down would fire before its time.
      const waitMs = Math.ceil(Math.min(leftMs, nextMs, LOOK_AGAIN_MS));
      if ((await within(idle, waitMs)) === true) return true;
    } while (performance.now() < this.patienceEndsAt);
    return false;
  }

  /** Stops every agent that is left, and cuts the grace of those that are being stopped. */
  stopRest(): void {
    for (const slot of this.runner.slotsWhere(() => true)) this.stop(slot, this.options.graceMs);
  }

  /** Stops those agents whose grace would end after the drain's deadline. Returns the time until the next one. */
  private stopDue(leftMs: number): number {
    const { graceMs, onEarly } = this.options;
    let nextMs = Number.POSITIVE_INFINITY;
    for (const slot of this.runner.slotsWhere(({ cause }) => cause === undefined)) {
      const inMs = leftMs + graceMs - this.graceOf(slot);
      if (inMs >= leftMs) continue;
      if (inMs > 0) nextMs = Math.min(nextMs, inMs);
      else {
        this.early.add(slot);
        onEarly(slot, this.stop(slot, leftMs + graceMs));
      }
    }
    return nextMs;
  }

  /** Another stop under way has a grace of its own, which only the drain's deadline shortens. */
  private stop(slot: AgentSlot, mostMs: number): number {
    const graceMs = slot.cause === undefined ? Math.min(this.graceOf(slot), mostMs) : mostMs;
    this.runner.stopWhere((one) => one === slot, {
      reason: 'server_shutdown',
      mode: 'graceful',
      by: 'belay',
      endsAs: 'failed',
      graceMs,
    });
    return graceMs;
  }

  private graceOf({ graceMs = this.options.graceMs }: AgentSlot): number {
    return graceMs;
  }
}
