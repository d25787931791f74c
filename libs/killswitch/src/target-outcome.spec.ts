import type { Order } from '#libs/contracts';
import { stopReport } from '../../../test/support/life';
import { outcomeFor, outcomeOfEnd, type KnownEnd } from './target-outcome';

const PROVED = stopReport();
const NOT_PROVED = { ...PROVED, proved: false };
const FENCED = { state: 'failed', reason: 'worker_lost' } as const;

describe('R51 the outcome of an ended target', () => {
  it.each<[string, string, KnownEnd]>([
    ['killed', 'a kill', { state: 'killed', reason: 'killswitch' }],
    ['killed', 'the fence of its worker', FENCED],
    ['already-ended', 'its own completion', { state: 'completed' }],
    ['already-ended', 'its own failure', { state: 'failed', reason: 'error' }],
    ['already-ended', 'its timeout', { state: 'failed', reason: 'timeout' }],
  ])('is %s after %s, and unconfirmed without evidence', (outcome, _what, end) => {
    expect(outcomeOfEnd({ ...end, report: PROVED }, 'wrk_1').outcome).toBe(outcome);
    for (const report of [NOT_PROVED, undefined])
      expect(outcomeOfEnd({ ...end, report }, 'wrk_1')).toMatchObject({
        outcome: 'unconfirmed',
        detail: expect.stringContaining('wrk_1') as string,
      });
  });

  it('names the worker that lost contact where no order ended the agent', () => {
    expect(outcomeOfEnd({ ...FENCED, report: PROVED }, 'wrk_1').detail).toMatch(/^not by this order.*wrk_1/);
    expect(outcomeOfEnd({ state: 'killed', report: PROVED }, 'wrk_1').detail).toBeUndefined();
  });

  it.each(['kill', 'freeze', 'thaw'] as const)(
    'is unconfirmed for a %s when nobody knows how it ended',
    (kind) => {
      const order = { id: 'ord_1', kind } as Order;
      const lostTrack = { state: 'failed', reason: 'error', owner: 'wrk_1' } as const;
      expect(outcomeFor(order, lostTrack).outcome).toBe('unconfirmed');
    },
  );
});
