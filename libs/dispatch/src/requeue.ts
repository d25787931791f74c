import { isTransient, retryTransient } from '#libs/valkey';
import { DelayedError, type Job } from 'bullmq';

/**
 * Requeues a job with a delay. If the server refuses, it is asked again. If it goes on refusing, the job stays as it is, its
 * lock runs out, and it is taken again. A transient error never fails a job.
 *
 * @param until the end of the delay by the server's clock, since other machines look whether it is over. Milliseconds
 * @param patienceMs how long to repeat the try, milliseconds
 * @throws DelayedError always: BullMQ's sign that a job is not over
 */
export async function requeue(
  job: Job,
  token: string | undefined,
  until: number,
  patienceMs = 10_000,
): Promise<never> {
  try {
    await retryTransient(async () => job.moveToDelayed(until, token), patienceMs);
  } catch (error) {
    if (!isTransient(error)) throw error;
  }
  throw new DelayedError();
}
