import { DelayedError, type Job } from 'bullmq';
import { requeue } from './requeue';

/** Answers each try to move the job with the next of those; the last one repeats. */
function jobOf(...answers: (Error | undefined)[]): { job: Job; tries: () => number } {
  let tries = 0;
  const moveToDelayed = async (): Promise<void> => {
    const answer = answers[Math.min(tries++, answers.length - 1)];
    if (answer !== undefined) throw answer;
  };
  return { job: { moveToDelayed } as unknown as Job, tries: () => tries };
}

const REFUSED = new Error('READONLY You can not write against a read only replica.');

describe('R70 a job that is given back', () => {
  it('is asked for again while the server refuses', async () => {
    const { job, tries } = jobOf(REFUSED, REFUSED, undefined);
    await expect(requeue(job, 'token', 1)).rejects.toThrow(DelayedError);
    expect(tries()).toBe(3);
  });

  it('is left to its lock when that lasts: it is not failed', async () => {
    await expect(requeue(jobOf(REFUSED).job, 'token', 1, 30)).rejects.toThrow(DelayedError);
  });

  it('that another worker has by now is an error', async () => {
    const { job } = jobOf(new Error('Missing lock for job 1. moveToDelayed'));
    await expect(requeue(job, 'token', 1)).rejects.toThrow('Missing lock');
  });
});
