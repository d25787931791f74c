import type { Scope } from './scope';
import { formatSelector } from './selector';

/** A job of a BullMQ queue, as a scope: short for the selector of its two labels. */
export interface JobScope {
  readonly type: 'job';
  readonly queue: string;
  readonly jobId: string;
}

/** Labels of an execution that runs a job of a killable processor (docs/processors.md). */
export const QUEUE_LABEL = 'belay.queue';
export const JOB_LABEL = 'belay.job';

/** The scope as it is stored: a job becomes the selector of its labels. */
export function plainScope(scope: Scope | JobScope): Scope {
  if (scope.type !== 'job') return scope;
  const labels = [
    [QUEUE_LABEL, scope.queue],
    [JOB_LABEL, scope.jobId],
  ] as const;
  return {
    type: 'selector',
    selector: formatSelector(labels.map(([key, value]) => ({ key, op: 'in', values: [value] }))),
  };
}

/** The event by which an agent adds a line to its job's log. */
export const JOB_LOG_EVENT = 'job.log';

/** Names of queues whose jobs can be processed. The names are parts of pools' names. */
export const JOB_QUEUE_PATTERN = /^[A-Za-z0-9_.-]{1,58}$/;

/** The pool, and the handler, of a queue's jobs: only workers of applications that process the queue take from it. */
export const jobPoolOf = (queue: string): string => `queue.${queue}`;
