import type { RunningAgent } from './agent-process';
import { findAlive } from './proc-stat';
import type { AssignRequest, ProcessIdentity, WaitingProcess } from './process-host.types';

/**
 * A process that was started before it has an attempt. Its tree is contained like every agent's, from its first instruction on,
 * so the proof does not change when it gets one: only the receiver of its reports does.
 */
export class Waiting implements WaitingProcess {
  #isTaken = false;

  constructor(
    readonly agent: RunningAgent,
    readonly ready: Promise<void>,
  ) {}

  get identity(): ProcessIdentity {
    return this.agent.identity;
  }

  get ended(): Promise<unknown> {
    return this.agent.ended;
  }

  /** Running, and given to no attempt. It asks the kernel, which knows of an end before it is reported here. */
  get isFree(): boolean {
    return !this.#isTaken && findAlive(this.identity) !== undefined;
  }

  /** @param deadline ticks since boot. */
  give(request: AssignRequest, deadline: number | undefined): void {
    this.#isTaken = true;
    this.agent.assign(request, deadline);
  }

  async end(): Promise<void> {
    if (this.#isTaken) return;
    this.#isTaken = true;
    await this.agent.stop({ mode: 'immediate', graceMs: 0 });
  }
}
