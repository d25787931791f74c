import { isTransient, retryTransient } from '#libs/valkey';
import { DelayedError, type Job } from 'bullmq';

/**
 * Requeues a job with a delay. A server that refuses is asked again; when that
 * lasts, the job stays as it is, its lock runs out, and it is taken again. A transient error never fails a job.
 *
 * @param until the end of its rest by the server's clock, since others than this machine look when it is over. Milliseconds
 * @param patienceMs how long it is asked for, milliseconds
 * @throws DelayedError always: BullMQ's word for a job that is not over
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
