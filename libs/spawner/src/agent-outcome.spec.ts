import { BelayError, type ExitReport, type Order } from '#libs/contracts';
import { node } from '../../../test/support/specs';
import { NOT_STARTED, outcomeOf, spawnFailed, unknownHandler } from './agent-outcome';
import type { AgentReporter } from './agent-reporter';

const reporter = { spent: () => ({}), result: undefined } as unknown as AgentReporter;
const late: ExitReport = {
  exitCode: 126,
  signal: null,
  leftovers: 0,
  startedTooLate: true,
  report: NOT_STARTED,
};

describe('an attempt whose time to start was over before it became its command', () => {
  it('was killed where a kill ended its time', () => {
    const order = { id: 'ord_1', scope: { type: 'all' } } as unknown as Order;
    const cause = { reason: 'killswitch', mode: 'immediate', by: 'me', endsAs: 'killed', order } as const;
    expect(outcomeOf(cause, late, reporter, false)).toMatchObject({ state: 'killed', orderId: 'ord_1' });
  });

  it.each([['all'], ['agent']])('names the author of a kill of scope %s with role and request', (type) => {
    const author = { by: 'me', role: 'stopper', requestId: 'req_1' };
    const order = { id: 'ord_1', scope: { type }, ...author } as unknown as Order;
    const cause = { reason: 'killswitch', mode: 'immediate', by: 'me', endsAs: 'killed', order } as const;
    const who = { actor: 'me', actorRole: 'stopper', requestId: 'req_1' };
    const outcome = outcomeOf(cause, late, reporter, false);
    expect(outcome).toMatchObject(who);
    expect(outcome.stop).toEqual(
      type === 'all' ? { orderId: 'ord_1', reason: 'killswitch', ...who } : undefined,
    );
  });

  it('failed with its worker where nobody stopped it', () => {
    expect(outcomeOf(undefined, late, reporter, false)).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
    });
  });
});

describe('R51 an attempt that the host did not start', () => {
  const failure = (reason: string): BelayError =>
    new BelayError('SPAWN_FAILED', 'no', { details: { reason } });

  it('never had a process, and its outcome proves that', () => {
    expect(spawnFailed(failure('ENOENT'))).toMatchObject({ state: 'failed', report: NOT_STARTED });
  });

  it.each([
    ['its guardian did not answer', failure('GUARDIAN')],
    ['a fault of the worker came between', new Error('fault')],
  ])('may have a process when %s, so nothing is proved', (_what, error) => {
    expect(spawnFailed(error).report).toBeUndefined();
  });
});

describe('an attempt that failed', () => {
  const exit: ExitReport = { exitCode: 3, signal: null, leftovers: 0, report: NOT_STARTED };

  it('has its own word for why, else its exit code', () => {
    expect(outcomeOf(undefined, exit, reporter, false).error).toEqual({
      code: 'EXIT',
      message: 'Exited with code 3.',
    });
    const error = { code: 'NO_ROOM', message: 'no room' };
    const said = { spent: () => ({}), result: undefined, error } as unknown as AgentReporter;
    expect(outcomeOf(undefined, exit, said, false)).toMatchObject({ state: 'failed', error });
    expect(outcomeOf(undefined, { ...exit, exitCode: 0 }, said, false)).toMatchObject({ state: 'completed' });
  });

  it('for want of its handler names the worker, the handler and the pool', () => {
    const outcome = unknownHandler(node('a', { run: { handler: 'sum' } }), 'wrk_1');
    expect(outcome).toMatchObject({
      state: 'failed',
      error: { code: 'UNKNOWN_HANDLER' },
      report: { proved: true },
    });
    expect(outcome.error?.message).toMatch(/wrk_1 has no handler sum\..*pool default/);
  });
});
