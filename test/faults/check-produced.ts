import type { Violation } from './check';
import { mayBeLost, type History } from './history';

const ENDED = ['completed', 'failed', 'stopped'];

/** One execution for each submitted job, and a job's answer is its execution's outcome. */
export function checkProduced({ executions, produced, retried, faults, lossWindows }: History): Violation[] {
  const names = new Set(
    executions.flatMap(({ name }) => (name === undefined || name === 'drill' ? [] : name)),
  );
  const twice = [...names].flatMap((name): Violation[] => {
    const ids = executions.filter((one) => one.name === name).map(({ id }) => id);
    return ids.length < 2
      ? []
      : [{ rule: 'produced', what: `${name} was handed in once and is ${ids.join(', ')}` }];
  });
  // The job's end may have been lost with the server's answer; then BullMQ takes its time.
  const isLate = faults.some(({ workerId }) => workerId === undefined);
  const jobs = produced.flatMap(({ name, accepted, span, executionId, job }): Violation[] => {
    const fail = (what: string): Violation[] => [{ rule: 'produced', what: `the job of ${name} ${what}` }];
    if (!accepted) return [];
    const execution = executions.find(({ id }) => id === executionId);
    if (job === undefined) {
      if (execution === undefined && mayBeLost(span, lossWindows)) return [];
      if (execution === undefined) return fail('was accepted, and there is no execution');
      return isLate || !ENDED.includes(execution.state ?? '') ? [] : fail('is not over with its execution');
    }
    if ('failed' in job) return fail(`failed: ${job.failed}`);
    if (execution === undefined) return fail(`is over with ${job.status}, and there is no execution`);
    if (retried.includes(execution.id)) return [];
    if (job.status !== execution.state)
      return fail(`says ${job.status}, and its execution is ${execution.state}`);
    const isEqual = Math.abs(job.costUsd - (execution.costUsd ?? 0)) < 1e-6;
    return isEqual ? [] : fail(`says a cost of ${job.costUsd}, and it is ${execution.costUsd}`);
  });
  return [...twice, ...jobs];
}
