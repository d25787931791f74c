import { randomUUID } from 'node:crypto';
import type { AgentStore, Claim } from '#libs/lifecycle';
import type { RunnerOptions } from './agent-runner.types';
import type { AgentSlot } from './agent-slot';
import { untilAnswered } from './until-answered';

/**
 * Claims attempts for one worker. The worker learns of every claim that the server granted, and it runs at most one copy of an
 * attempt.
 */
export class AttemptClaims {
  /** @param copiesOf the slots with an earlier granted claim of that attempt that are not closed yet. */
  constructor(
    private readonly agents: Pick<AgentStore, 'claim'>,
    private readonly options: Pick<RunnerOptions, 'workerId' | 'onError' | 'closing'>,
    private readonly copiesOf: (agentId: string) => readonly AgentSlot[],
  ) {}

  /**
   * A failover that loses a claim lets this worker claim again while its first copy still runs. The first copy is ended before
   * the second starts, so that an attempt has one live copy. The end of the first copy may have become the attempt's end, so
   * the worker claims again.
   * @returns undefined when the worker drains, or closes, before there was an answer.
   */
  async claimOnce(slot: AgentSlot): Promise<Claim | undefined> {
    const token = randomUUID();
    const claim = await this.claimUntilAnswered(slot, token);
    const copies = this.copiesOf(slot.agentId);
    if (claim?.claimed !== true || copies.length === 0) return claim;
    for (const copy of copies)
      copy.stop({ reason: 'worker_lost', mode: 'immediate', by: 'belay', endsAs: 'failed' }, 0);
    await Promise.all(copies.map(async ({ closed }) => closed));
    return this.claimUntilAnswered(slot, token);
  }

  /**
   * A claim whose answer was lost may have been granted. If the worker gave it up, its agent would have no owner. The same
   * token gets the same claim, so the worker asks until there is an answer.
   */
  private async claimUntilAnswered(slot: AgentSlot, token: string): Promise<Claim | undefined> {
    return untilAnswered(
      this.options,
      slot.agentId,
      async () => this.agents.claim(slot.job, this.options.workerId, token),
      () => slot.cause?.reason === 'server_shutdown',
    );
  }
}
