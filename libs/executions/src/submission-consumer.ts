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

/** The longest carrier that is read. Characters. */
const MOST_METADATA = 16_384;

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
      const { spec, traceparent } = contentOf(job);
      const { execution } = await this.manager.submit(spec, {
        idempotencyKey: job.key,
        actor: 'producer',
        ...(traceparent === undefined ? {} : { traceparent }),
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

/**
 * The spec of a job, and its producer's place in a trace: the field `traceparent` of its data, which is no part of the spec, or
 * what BullMQ's own telemetry stored with it (docs/producers.md).
 */
function contentOf({ data, facts }: ProducedJob): { spec: ExecutionSpecInput; traceparent?: string } {
  const isObject = typeof data === 'object' && data !== null && !Array.isArray(data);
  const { traceparent: own, ...spec } = isObject ? (data as Record<string, unknown>) : {};
  const traceparent = own ?? carriedBy(facts.opts);
  return {
    spec: (isObject ? spec : data) as ExecutionSpecInput,
    ...(typeof traceparent === 'string' ? { traceparent } : {}),
  };
}

/** BullMQ stores its telemetry's carrier as JSON text; that of bullmq-otel has the names of the HTTP headers. */
function carriedBy(opts: { readonly telemetry?: { readonly metadata?: unknown } }): unknown {
  const metadata = opts.telemetry?.metadata;
  if (typeof metadata !== 'string' || metadata.length > MOST_METADATA) return undefined;
  try {
    return (JSON.parse(metadata) as { traceparent?: unknown } | null)?.traceparent;
  } catch {
    return undefined;
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
