import { isBelayError, type WorkerRecord } from '#libs/contracts';
import { node, spec } from '../../../test/support/specs';
import { checkHandlers, hasHandlers } from './check-handlers';

const worker = (pools: string[], handlers?: string[]) =>
  ({ pools, ...(handlers === undefined ? {} : { handlers }) }) as unknown as WorkerRecord;
const sum = spec([node('a'), node('b', { run: { handler: 'sum' } })]);

function problemsOf(workers: WorkerRecord[]): string[] {
  try {
    checkHandlers(sum, workers);
    return [];
  } catch (error) {
    if (!isBelayError(error)) throw error;
    return error.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
  }
}

describe('R69 the handlers of a spec', () => {
  it('are looked up only where there are any', () => {
    expect([hasHandlers(spec([node('a')])), hasHandlers(sum)]).toEqual([false, true]);
  });

  it('are refused where the running workers of their pool have none of that name', () => {
    const head =
      'nodes[1].run.handler UNKNOWN_HANDLER no running worker of the pool default has a handler sum;';
    expect(problemsOf([worker(['default'])])).toEqual([`${head} they have none.`]);
    expect(problemsOf([worker(['default'], ['sun'])])).toEqual([`${head} did you mean sun?`]);
    expect(problemsOf([worker(['default'], ['mail', 'report'])])).toEqual([
      `${head} they have mail, report.`,
    ]);
  });

  it('are accepted where one worker has it, and where no worker of the pool runs yet', () => {
    expect(problemsOf([])).toEqual([]);
    expect(problemsOf([worker(['gpu'], ['mail'])])).toEqual([]);
    expect(problemsOf([worker(['default']), worker(['default'], ['sum'])])).toEqual([]);
  });
});
