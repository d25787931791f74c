import { JOB_QUEUE_PATTERN, jobPoolOf } from '#libs/contracts';
import type { AgentContext } from '../handlers/agent-context';
import { declare } from '../handlers/agent-handler';
import type { KillableProcessorOptions } from './declared-processor';
import type { KillableJob } from './killable-job';

/**
 * The base of a killable processor, in place of @nestjs/bullmq's `WorkerHost`. An object is made in the process of each job, so
 * nothing is shared between two jobs.
 */
export abstract class KillableHost<Data = unknown, Result = unknown> {
  /** Its return value becomes the job's. An error fails this attempt of the job, as in BullMQ. */
  abstract process(job: KillableJob<Data>, context: AgentContext): Promise<Result> | Result;
}

/**
 * Processes the jobs of a BullMQ queue, each in a process of its own that can be killed with proof from any other process
 * (docs/processors.md). The queue, its producers and the options of its jobs stay as they are.
 */
export function KillableProcessor(
  queue: string,
  { concurrency = 1, ...options }: KillableProcessorOptions = {},
): (host: new (...args: never[]) => KillableHost<never>) => void {
  if (!JOB_QUEUE_PATTERN.test(queue))
    throw new TypeError(
      `@KillableProcessor(${JSON.stringify(queue)}): the name of the queue must be 1 to 58 of A-Z a-z 0-9 _ . -`,
    );
  if (!Number.isSafeInteger(concurrency) || concurrency < 1)
    throw new TypeError(
      `@KillableProcessor(${JSON.stringify(queue)}): concurrency must be a whole number of at least 1`,
    );
  return (host) =>
    declare(host, {
      name: jobPoolOf(queue),
      method: 'process',
      options: {},
      processor: { ...options, queue, concurrency },
    });
}
