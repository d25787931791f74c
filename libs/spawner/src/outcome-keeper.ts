import { setTimeout as delay } from 'node:timers/promises';
import { isBelayError } from '#libs/contracts';
import type { AgentOutcome, AgentStore, StartedProcess } from '#libs/lifecycle';
import { withoutSayings } from './agent-outcome';
import type { Granted, RunnerOptions } from './agent-runner.types';
import type { OutcomeReplay } from './outcome-replay';

/** After this many tries, a fault that is not the server's is blamed on the agent's messages. */
const TRIES_WHOLE = 3;
const LONGEST_PAUSE_MS = 5_000;

/**
 * The server has refused: this worker may no longer write the attempt, or its record cannot be read
 * (docs/architecture.md#a-record-that-cannot-be-read). The receipts are informed already, and a slot must not wait for a
 * person.
 */
const REFUSALS = ['STALE_EPOCH', 'INVALID_TRANSITION', 'NOT_FOUND', 'CORRUPT_RECORD'];
const isRefusal = (error: unknown): boolean => isBelayError(error) && REFUSALS.includes(error.code);

/** Keeps the outcome of an attempt until it is stored, or refused. A refusal never drops evidence of the attempt's death. */
export class OutcomeKeeper {
  constructor(
    private readonly agents: Pick<AgentStore, 'prove'>,
    private readonly ends: Pick<OutcomeReplay, 'store'>,
    private readonly options: Pick<RunnerOptions, 'closing' | 'onError'>,
    private readonly pause = pauseUntilClosing,
  ) {}

  /**
   * Stores the outcome, and retries whatever the trouble: the server is away or full, or a fault. Only a refusal, or this
   * process's own end, gives it up. An outcome that cannot be stored as it is (a result no JSON can carry) is stored without
   * its messages.
   */
  async store(claim: Granted, outcome: AgentOutcome, start: StartedProcess | undefined): Promise<void> {
    const { agentId } = claim.fence;
    const { closing } = this.options;
    let sent = outcome;
    for (let attempt = 0; ; attempt++) {
      try {
        const { repeated } = await this.ends.store(claim.fence, sent, claim.node, start);
        // The same end was stored before: by this worker, or by a janitor that took its lease and had no proof.
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

  /** Another process has ended this attempt without proof. This worker's observation is the proof. */
  private async proveLate({ fence }: Granted, { report }: AgentOutcome, refusal?: unknown): Promise<void> {
    if (report?.proved === true) await this.agents.prove(fence.agentId, fence.owner, report);
    else if (refusal !== undefined) throw refusal;
  }
}

/** Ends early when the worker stops waiting. */
async function pauseUntilClosing(ms: number, closing: AbortSignal | undefined): Promise<void> {
  await delay(ms, undefined, closing === undefined ? {} : { signal: closing }).catch(() => undefined);
}
