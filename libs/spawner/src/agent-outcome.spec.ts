import type { ExitReport, Order } from '#libs/contracts';
import { NOT_STARTED, outcomeOf } from './agent-outcome';
import type { AgentReporter } from './agent-reporter';

const reporter = { costUsd: 0, result: undefined } as unknown as AgentReporter;
const late: ExitReport = {
  exitCode: 126,
  signal: null,
  leftovers: 0,
  startedTooLate: true,
  report: NOT_STARTED,
};

describe('an attempt whose time to start was over before it became its command', () => {
  it('was killed where a kill is what ended its time', () => {
    const order = { id: 'ord_1', scope: { type: 'all' } } as unknown as Order;
    const cause = { reason: 'killswitch', mode: 'immediate', by: 'me', endsAs: 'killed', order } as const;
    expect(outcomeOf(cause, late, reporter, false)).toMatchObject({ state: 'killed', orderId: 'ord_1' });
  });

  it('failed with its worker where nobody stopped it', () => {
    expect(outcomeOf(undefined, late, reporter, false)).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
    });
  });
});
