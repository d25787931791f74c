import { JOB_LOG_EVENT } from '#libs/contracts';
import type { JobInput } from '#libs/executions';
import { report, say } from '../handlers/reporter';

/**
 * A job in the process that runs it: BullMQ's fields of the same names, and the two calls that BullMQ's sandbox has too. It
 * does not have the lock's token: the instance that took the job owns the lock, and it may be another one tomorrow.
 * `context.epoch` fences the writes of a job.
 */
export interface KillableJob<Data = unknown> {
  readonly id: string;
  readonly name: string;
  readonly queueName: string;
  readonly data: Data;
  readonly opts: Readonly<Record<string, unknown>>;
  readonly timestamp: number;
  /** Attempts that failed before this one. */
  readonly attemptsMade: number;
  /** Stored on the BullMQ job, and on the agent; of many in a row only the last counts. */
  updateProgress(progress: unknown): Promise<void>;
  /** A line of the BullMQ job's log, and of the agent's. */
  log(line: string): Promise<void>;
}

export function killableJobOf({ queue, ...facts }: JobInput): KillableJob {
  return {
    ...facts,
    opts: facts.opts as KillableJob['opts'],
    queueName: queue,
    updateProgress: async (value) => report({ type: 'progress', value }),
    log: async (line) => {
      say(line);
      report({ type: 'event', name: JOB_LOG_EVENT, data: line });
    },
  };
}
