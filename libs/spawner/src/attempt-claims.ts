import { randomUUID } from 'node:crypto';
import type { AgentStore, Claim } from '#libs/lifecycle';
import type { RunnerOptions } from './agent-runner.types';
import type { AgentSlot } from './agent-slot';
import { untilAnswered } from './until-answered';

/**
 * Claims attempts for one worker. A claim that the server granted is known here sooner or later, and of one attempt this
 * worker runs one copy at most.
 */
export class AttemptClaims {
  /** @param copiesOf the slots whose claim of that attempt was granted before, and that are not closed yet. */
  constructor(
    private readonly agents: Pick<AgentStore, 'claim'>,
    private readonly options: Pick<RunnerOptions, 'workerId' | 'onError' | 'closing'>,
    private readonly copiesOf: (agentId: string) => readonly AgentSlot[],
  ) {}

  /**
   * A failover that loses a claim lets this worker have it again while its first copy still runs. The first copy is ended
   * before the second starts: of one attempt there is one live copy (requirement R26). Its end may have become the attempt's, so the
   * claim is asked for again.
   * @returns undefined when the worker drains, or closes, before there was an answer.
   */
  async claimOnce(slot: AgentSlot): Promise<Claim | undefined> {
    const token = randomUUID();
    const claim = await this.claimPatiently(slot, token);
    const copies = this.copiesOf(slot.agentId);
    if (claim?.claimed !== true || copies.length === 0) return claim;
    for (const copy of copies)
      copy.stop({ reason: 'worker_lost', mode: 'immediate', by: 'belay', endsAs: 'failed' }, 0);
    await Promise.all(copies.map(async ({ closed }) => closed));
    return this.claimPatiently(slot, token);
  }

  /**
   * A claim whose answer was lost may have been granted: given up, its agent would be nobody's. The same token gets the
   * same claim, so it is asked for until there is an answer.
   */
  private async claimPatiently(slot: AgentSlot, token: string): Promise<Claim | undefined> {
    return untilAnswered(
      this.options,
      slot.agentId,
      async () => this.agents.claim(slot.job, this.options.workerId, token),
      () => slot.cause?.reason === 'server_shutdown',
    );
  }
}
