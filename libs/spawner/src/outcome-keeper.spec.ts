import { BelayError, OutcomeUnknownError } from '#libs/contracts';
import type { AgentOutcome, FinishResult } from '#libs/lifecycle';
import { NOT_STARTED } from './agent-outcome';
import type { Granted } from './agent-runner.types';
import { OutcomeKeeper } from './outcome-keeper';

const FENCE = { agentId: 'agt_1', owner: 'wrk_1', epoch: 1 };
const CLAIM = { claimed: true, fence: FENCE, node: { id: 'a' } } as unknown as Granted;
const DONE = { next: 'completed' } as unknown as FinishResult;
const PROVED: AgentOutcome = { state: 'completed', result: { kept: true }, costUsd: 1, report: NOT_STARTED };

/** Answers the tries of storing in turn; the last one answers all further tries. */
function keeper(answers: (FinishResult | Error)[], closing?: AbortSignal) {
  const sent: AgentOutcome[] = [];
  const pauses: number[] = [];
  const prove = jest.fn(async () => undefined);
  const store = async (_fence: unknown, outcome: AgentOutcome): Promise<FinishResult> => {
    sent.push(outcome);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return answer as FinishResult;
  };
  const options = closing === undefined ? {} : { closing };
  const kept = new OutcomeKeeper(
    { prove: prove as never },
    { store },
    options,
    async (ms) => void pauses.push(ms),
  );
  return { sent, pauses, prove, store: async (outcome = PROVED) => kept.store(CLAIM, outcome, undefined) };
}

describe('the outcome of an attempt', () => {
  it('is stored again, whole and after ever longer pauses, while the server is away', async () => {
    const away = new OutcomeUnknownError('script finishAgent', new Error('read ECONNRESET'));
    const { store, sent, pauses, prove } = keeper([...Array.from({ length: 7 }, () => away), DONE]);
    await store();
    expect(sent).toEqual(Array.from({ length: 8 }, () => PROVED));
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 5000]);
    expect(prove).not.toHaveBeenCalled();
  });

  it('is stored without the agent’s messages where those cannot be stored', async () => {
    const fault = new TypeError('Converting circular structure to JSON');
    const { store, sent } = keeper([fault, fault, fault, fault, DONE]);
    await store();
    expect(sent.slice(0, 4)).toEqual([PROVED, PROVED, PROVED, PROVED]);
    expect(sent[4]).toEqual({
      state: 'failed',
      reason: 'error',
      report: NOT_STARTED,
      error: { code: 'OUTCOME_INVALID', message: `Its report could not be stored: ${fault.message}` },
    });
  });

  it.each(['STALE_EPOCH', 'INVALID_TRANSITION', 'NOT_FOUND', 'CORRUPT_RECORD'] as const)(
    'R51 gives its evidence to the end that is stored when it is refused with %s',
    async (code) => {
      const { store, sent, prove } = keeper([new BelayError(code, 'refused')]);
      await store();
      expect(sent).toHaveLength(1);
      expect(prove).toHaveBeenCalledWith('agt_1', 'wrk_1', NOT_STARTED);
    },
  );

  it('R51 gives its evidence where the same end was stored before', async () => {
    const { store, prove } = keeper([{ ...DONE, repeated: true }]);
    await store();
    expect(prove).toHaveBeenCalledTimes(1);
  });

  it('R51 is refused aloud where there is no evidence to give', async () => {
    const { store, prove } = keeper([new BelayError('STALE_EPOCH', 'refused')]);
    await expect(store({ state: 'failed' })).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    expect(prove).not.toHaveBeenCalled();
  });

  it('is given up when this worker closes', async () => {
    const away = new OutcomeUnknownError('script finishAgent', new Error('read ECONNRESET'));
    const { store, sent } = keeper([away], AbortSignal.abort());
    await expect(store()).rejects.toBe(away);
    expect(sent).toHaveLength(1);
  });
});
