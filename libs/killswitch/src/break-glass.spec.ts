import type { ExitReport, Grade, LocalKillRequest, StopReport } from '#libs/contracts';
import { AgentSlot, type AgentProcess, type AgentSlots, type StopCause } from '#libs/spawner';
import { stopReport } from '../../../test/support/life';
import { BreakGlass } from './break-glass';

const WORKER = 'wrk_1';
const REQUEST: LocalKillRequest = { scope: { type: 'all' }, mode: 'graceful', by: 'test' };
const JOB = { agentId: 'agt_1-0-1', executionId: 'exe_1', nodeId: 'a', attempt: 1 };

const CLAIM = {
  fence: { agentId: JOB.agentId, owner: WORKER, epoch: 1 },
  claimedAt: 1,
  born: 1,
  pool: 'default',
  labels: {},
  node: {},
};

/** A worker that runs only that slot. */
function breakGlassOver(
  slot: AgentSlot,
  { wasFenced = false, proof = 'marks' }: { wasFenced?: boolean; proof?: Grade } = {},
): BreakGlass {
  const agents = {
    slotsWhere: (matches: (one: AgentSlot) => boolean) => [slot].filter(matches),
    stopWhere: (matches: (one: AgentSlot) => boolean, cause: StopCause) =>
      matches(slot) && slot.stop(cause, 0),
  } as unknown as AgentSlots;
  return new BreakGlass(
    agents,
    { wasSilent: wasFenced },
    {
      workerId: WORKER,
      proofMs: 60_000,
      defaultGraceMs: 60_000,
      proof,
      hold: () => undefined,
      done: () => undefined,
    },
  );
}

describe('R51 R55 attempts that do not run when the glass is broken', () => {
  it('a claim under way is no target, and nobody waits for it: another worker may get it later', async () => {
    const slot = new AgentSlot(JOB, WORKER);
    expect(await breakGlassOver(slot).kill(REQUEST)).toMatchObject({ complete: true, targets: [] });
    // The worker does not start the agent, whatever the claim answered.
    await slot.maySpawn();
    expect(slot.cause).toMatchObject({ reason: 'killswitch' });
  });

  it.each([
    ['is in its pool', { type: 'pool', pool: 'default' }, 'killed'],
    ['has its labels', { type: 'selector', selector: 'team=data' }, 'killed'],
    ['is in another pool', { type: 'pool', pool: 'gpu' }, undefined],
    ['has other labels', { type: 'selector', selector: 'team=web' }, undefined],
  ] as const)(
    'a claim under way whose reply says that the attempt %s: nobody waits for it, and only an attempt in scope is ended',
    async (_what, scope, endsAs) => {
      const slot = new AgentSlot(JOB, WORKER);
      const receipt = await breakGlassOver(slot).kill({ ...REQUEST, scope, note: 'fire' });
      expect(receipt).toMatchObject({ complete: true, targets: [] });
      slot.granted({ ...CLAIM, labels: { team: 'data' } });
      await slot.maySpawn();
      expect(slot.cause?.endsAs).toBe(endsAs);
      expect(slot.cause?.local).toEqual(endsAs && { scope, note: 'fire' });
    },
  );

  it('a claim that was granted and not carried out yet is ended: it was never started', async () => {
    const slot = new AgentSlot(JOB, WORKER);
    slot.granted(CLAIM);
    expect(await breakGlassOver(slot).kill(REQUEST)).toMatchObject({
      complete: true,
      targets: [{ agentId: JOB.agentId, outcome: 'already-ended', detail: 'it was never started' }],
    });
  });
});

describe('R51 the evidence of a kill without the server', () => {
  const KILL = { signal: 'SIGKILL', to: 'group', afterMs: 1 } as const;
  const exitWith = (report: StopReport): ExitReport => ({
    exitCode: null,
    signal: 'SIGKILL',
    leftovers: 0,
    report,
  });

  /** A slot whose process ends with that report when it is stopped, or has ended with it. */
  function slotEnding(report: StopReport, confirmed: StopReport, hasEnded = false): AgentSlot {
    const slot = new AgentSlot(JOB, WORKER);
    slot.granted(CLAIM);
    let end: (exit: ExitReport) => void = () => undefined;
    const ended = new Promise<ExitReport>((resolve) => (end = resolve));
    const stop = async (): Promise<ExitReport> => {
      end(exitWith(report));
      return ended;
    };
    slot.hasProcess(
      { ended, confirmed: Promise.resolve(confirmed), stop } as unknown as AgentProcess,
      undefined,
    );
    if (hasEnded) end(exitWith(report));
    return slot;
  }

  it('counts no death that the worker gave up to prove when it closed', async () => {
    const report = { ...stopReport({ signals: [KILL] }), proved: false };
    expect(await breakGlassOver(slotEnding(report, report)).kill(REQUEST)).toMatchObject({
      complete: false,
      targets: [{ outcome: 'unconfirmed', report: { proved: false } }],
    });
  });

  it.each([
    ['killed', 'kernel', 'descent-empty', 'kernel'],
    ['unconfirmed', 'marks', 'sweep-empty', 'kernel'],
    ['killed', 'marks', 'sweep-empty', 'marks'],
  ] as const)(
    'says %s of a proof of grade %s (%s) where BELAY_PROOF is %s',
    async (outcome, _grade, kind, proof) => {
      const report = stopReport({ signals: [KILL], evidence: [{ kind, afterMs: 1 }] });
      const receipt = await breakGlassOver(slotEnding(report, report), { proof }).kill(REQUEST);
      expect(receipt).toMatchObject({ complete: outcome === 'killed', targets: [{ outcome }] });
      const why = outcome === 'killed' ? undefined : (expect.stringContaining('BELAY_PROOF') as string);
      expect(receipt.targets[0]?.detail).toEqual(why);
    },
  );

  it('counts a death that was proved late', async () => {
    const proved = stopReport({ signals: [KILL] });
    const slot = slotEnding({ ...proved, proved: false }, proved);
    expect(await breakGlassOver(slot).kill(REQUEST)).toMatchObject({
      complete: true,
      targets: [{ outcome: 'killed', report: { proved: true } }],
    });
  });

  it('calls a fenced agent killed, and not by this order, as its record does', async () => {
    const report = stopReport({ signals: [] });
    expect(await breakGlassOver(slotEnding(report, report), { wasFenced: true }).kill(REQUEST)).toMatchObject(
      {
        complete: true,
        targets: [{ outcome: 'killed', detail: expect.stringMatching(/^not by this order/) as string }],
      },
    );
  });

  it.each([
    ['killed', 'worker_lost', 'failed'],
    ['already-ended', 'timeout', 'failed'],
  ] as const)('says %s of an agent that a stop for %s had ended before', async (outcome, reason, endsAs) => {
    const report = stopReport({ signals: [KILL] });
    const slot = slotEnding(report, report, true);
    slot.stop({ reason, endsAs, mode: 'immediate', by: 'belay' }, 0);
    expect((await breakGlassOver(slot).kill(REQUEST)).targets).toMatchObject([{ outcome }]);
  });
});
