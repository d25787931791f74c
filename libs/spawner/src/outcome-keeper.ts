import { setTimeout as delay } from 'node:timers/promises';
import { isBelayError } from '#libs/contracts';
import type { AgentOutcome, AgentStore, StartedProcess } from '#libs/lifecycle';
import { withoutSayings } from './agent-outcome';
import type { Granted, RunnerOptions } from './agent-runner.types';

/** Tries with all that the agent said, before a fault that is not the server's is put down to that. */
const TRIES_WHOLE = 3;
const LONGEST_PAUSE_MS = 5_000;

/**
 * The server has answered, and the answer is no: this attempt is no longer ours to write, or its record cannot be read
 * (requirement R31). Its receipts have been told; a slot must not wait for a person.
 */
const REFUSALS = ['STALE_EPOCH', 'INVALID_TRANSITION', 'NOT_FOUND', 'CORRUPT_RECORD'];
const isRefusal = (error: unknown): boolean => isBelayError(error) && REFUSALS.includes(error.code);

/** Keeps the outcome of an attempt until it is stored, or refused. Evidence of its death is never dropped for a refusal. */
export class OutcomeKeeper {
  constructor(
    private readonly agents: Pick<AgentStore, 'prove'>,
    private readonly options: Pick<RunnerOptions, 'finish' | 'closing' | 'onError'>,
    private readonly pause = pauseUntilClosing,
  ) {}

  /**
   * Stores the outcome, again later whatever the trouble: the server away or full, a fault. Only a refusal, or our own
   * end, gives it up. An outcome that cannot be stored as it is (a result no JSON can carry) is stored without its messages.
   */
  async store(claim: Granted, outcome: AgentOutcome, start: StartedProcess | undefined): Promise<void> {
    const { agentId } = claim.fence;
    const { closing } = this.options;
    let sent = outcome;
    for (let attempt = 0; ; attempt++) {
      try {
        const { repeated } = await this.options.finish(claim.fence, sent, claim.node, start);
        // The same end was stored before: by us, or by a janitor that took our lease and had no proof.
        if (repeated === true) await this.proveLate(claim, outcome);
        return;
      } catch (error) {
        this.options.onError?.(error, agentId);
        if (isRefusal(error)) return this.proveLate(claim, outcome, error);
        if (closing?.aborted) throw error;
        if (attempt >= TRIES_WHOLE && !isBelayError(error)) sent = withoutSayings(outcome, error);
        await this.pause(Math.min(100 * 2 ** attempt, LONGEST_PAUSE_MS), closing);
      }
    }
  }

  /** Someone else has ended this attempt already, without proof: what we saw is the proof. */
  private async proveLate({ fence }: Granted, { report }: AgentOutcome, refusal?: unknown): Promise<void> {
    if (report?.proved === true) await this.agents.prove(fence.agentId, fence.owner, report);
    else if (refusal !== undefined) throw refusal;
  }
}

/** Ends early when the worker gives up. */
async function pauseUntilClosing(ms: number, closing: AbortSignal | undefined): Promise<void> {
  await delay(ms, undefined, closing === undefined ? {} : { signal: closing }).catch(() => undefined);
}
