import type { LocalKillRequest } from '#libs/contracts';
import { AgentSlot, type AgentRunner, type StopCause } from '#libs/spawner';
import { BreakGlass } from './break-glass';

const WORKER = 'wrk_1';
const REQUEST: LocalKillRequest = { scope: { type: 'all' }, mode: 'graceful', by: 'test' };
const JOB = { agentId: 'agt_1-0-1', executionId: 'exe_1', nodeId: 'a', attempt: 1 };

/** A worker that runs only that slot. */
function breakGlassOver(slot: AgentSlot): BreakGlass {
  const runner = {
    slotsWhere: (matches: (one: AgentSlot) => boolean) => [slot].filter(matches),
    stopWhere: (_: unknown, cause: StopCause) => slot.stop(cause, 0),
  } as unknown as AgentRunner;
  return new BreakGlass(runner, {
    workerId: WORKER,
    proofMs: 60_000,
    defaultGraceMs: 60_000,
    hold: () => undefined,
    done: () => undefined,
  });
}

describe('R51 R55 attempts that do not run when the glass is broken', () => {
  it('a claim under way is no target, and nobody waits for it: another worker may get it later', async () => {
    const slot = new AgentSlot(JOB, WORKER);
    expect(await breakGlassOver(slot).kill(REQUEST)).toMatchObject({ complete: true, targets: [] });
    // The worker does not start the agent, whatever the claim answered.
    await slot.maySpawn();
    expect(slot.cause).toMatchObject({ reason: 'killswitch' });
  });

  it('a claim that was granted and not carried out yet is ended: it was never started', async () => {
    const slot = new AgentSlot(JOB, WORKER);
    slot.granted({
      fence: { agentId: JOB.agentId, owner: WORKER, epoch: 1 },
      claimedAt: 1,
      born: 1,
      pool: 'default',
      labels: {},
      node: {},
    });
    expect(await breakGlassOver(slot).kill(REQUEST)).toMatchObject({
      complete: true,
      targets: [{ agentId: JOB.agentId, outcome: 'already-ended', detail: 'it was never started' }],
    });
  });
});
