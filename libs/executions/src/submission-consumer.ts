import { setMaxListeners } from 'node:events';
import {
  isBelayError,
  summaryOf,
  type BelayError,
  type ExecutionRecord,
  type ExecutionSpecInput,
  type LatchId,
  type ProducerProgress,
  type ProducerResult,
} from '#libs/contracts';
import type { JobVerdict, ProducedJob, ProducersQueue } from '#libs/dispatch';
import { ExecutionLostError, type ExecutionFollower } from './execution-follower';
import type { ExecutionManager } from './execution-manager';
import { passes, reasonOf, waitMs } from './job-verdicts';

/**
 * Turns producers' jobs into executions (docs/producers.md). A job's own key makes it one execution, however often it is taken.
 * Its progress follows the nodes, its return value is the summary. A bad spec fails the job for good; a latch makes it wait.
 */
export class SubmissionConsumer {
  private readonly closing = new AbortController();
  private running = false;

  constructor(
    private readonly queue: ProducersQueue,
    private readonly manager: ExecutionManager,
    private readonly follower: ExecutionFollower,
  ) {
    // One listener for each job under way.
    setMaxListeners(0, this.closing.signal);
  }

  start(): void {
    if (this.running) return;
    this.running = true;
    this.follower.start();
    this.queue.consume(async (job) => this.take(job));
  }

  /** Requeues the jobs that it follows, for another orchestrator; the executions go on. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.running = false;
    const closed = this.queue.close();
    this.closing.abort();
    await closed;
    this.follower.stop();
  }

  private async take(job: ProducedJob): Promise<JobVerdict> {
    if (this.closing.signal.aborted) return 'requeue';
    try {
      const { execution } = await this.manager.submit(job.data as ExecutionSpecInput, {
        idempotencyKey: job.key,
        actor: 'producer',
      });
      const ended = await this.follower.follow(execution.id, reporter(job), this.closing.signal);
      return { done: toResult(ended) };
    } catch (error) {
      if (this.closing.signal.aborted) return 'requeue';
      // A transient error (the server is away) is retried, whatever attempts the producer set.
      if (passes(error)) return { waitMs: waitMs(job) };
      // The queue still has the spec, under the key that makes it one execution.
      if (error instanceof ExecutionLostError) return { waitMs: waitMs(job) };
      if (!isBelayError(error)) throw error;
      if (error.code === 'LATCHED') return this.wait(job, error);
      return { failed: reasonOf(error) };
    }
  }

  private async wait(job: ProducedJob, error: BelayError): Promise<JobVerdict> {
    const latchId = error.details['latchId'] as LatchId | undefined;
    const progress: ProducerProgress = {
      waitingFor: 'latch',
      ...(latchId === undefined ? {} : { latchId }),
      message: error.message,
    };
    // Progress that cannot be reported now is reported at the next look.
    await job.report(progress).catch(() => undefined);
    return { waitMs: waitMs(job) };
  }
}

/** Reports progress when it changed. A report that fails is made with the next change. */
function reporter(job: ProducedJob): (record: ExecutionRecord) => void {
  let told = '';
  return ({ id, state, nodes }) => {
    const progress: ProducerProgress = { executionId: id, state, nodes };
    const text = JSON.stringify(progress);
    if (text === told) return;
    told = text;
    job.report(progress).catch(() => {
      told = '';
    });
  };
}

function toResult(record: ExecutionRecord): ProducerResult {
  return {
    executionId: record.id,
    status: record.state,
    ...(record.reason === undefined ? {} : { reason: record.reason }),
    ...(record.error === undefined ? {} : { error: record.error }),
    finalCostUsd: record.costUsd,
    summary: summaryOf(record, record.stoppedAt ?? record.completedAt ?? record.createdAt),
  };
}
