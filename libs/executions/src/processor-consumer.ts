import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import {
  isBelayError,
  JOB_LABEL,
  jobPoolOf,
  QUEUE_LABEL,
  type ExecutionRecord,
  type ExecutionSpecInput,
  type NodeSpec,
} from '#libs/contracts';
import type { JobConsumer, JobFacts, JobVerdict, ProducedJob } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { ExecutionLostError, type ExecutionFollower } from './execution-follower';
import type { ExecutionManager } from './execution-manager';
import { passes, reasonOf, waitMs } from './job-verdicts';

/** How a queue's jobs run. */
export interface ProcessorOptions {
  readonly queue: string;
  /** Labels to kill by, beside `belay.queue` and `belay.job`. The same job must always get the same labels. */
  readonly labels?: (job: {
    readonly name: string;
    readonly data: unknown;
  }) => Readonly<Record<string, string>>;
  /** The time limit of one attempt. Milliseconds. Default: none. */
  readonly timeoutMs?: number;
  /** The time between SIGTERM and SIGKILL. Milliseconds. Default: the application's. */
  readonly graceMs?: number;
  /** Limits of the process tree of one job, where the containment can enforce them. */
  readonly limits?: NodeSpec['limits'];
}

/** The input of a processor's process: the job as its producer added it. */
export interface JobInput extends JobFacts {
  readonly queue: string;
  readonly data: unknown;
}

/**
 * How often a job is given to another worker when its own is lost or drained. Rolling deployments do so more than once with a
 * long job. A job that ends every worker must come to an end.
 */
const ATTEMPTS = 10;
const NODE = 'job';

/**
 * Runs the jobs of one BullMQ queue. Each attempt of a job is an execution of one node, under a key made from the queue, the
 * job and its attempt: every process that takes the job, however often, joins the same execution. BullMQ's lock decides which
 * process reports the end to the queue. Only Belay's claim decides where the job runs, so a lost lock never runs a second copy
 * (ADR 0022).
 */
export class ProcessorConsumer {
  private readonly closing = new AbortController();
  private running = false;

  constructor(
    private readonly consumer: JobConsumer,
    private readonly manager: ExecutionManager,
    private readonly follower: ExecutionFollower,
    private readonly lifecycle: LifecycleService,
    private readonly options: ProcessorOptions,
  ) {
    // One listener for each job under way.
    setMaxListeners(0, this.closing.signal);
  }

  start(): void {
    if (this.running) return;
    this.running = true;
    this.consumer.consume(async (job) => this.take(job));
  }

  /** Requeues its jobs, for another instance; their executions go on. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.running = false;
    const closed = this.consumer.close();
    this.closing.abort();
    await closed;
  }

  private async take(job: ProducedJob): Promise<JobVerdict> {
    if (this.closing.signal.aborted) return 'requeue';
    try {
      const id = await this.executionOf(job);
      const ended = await this.follower.follow(id, () => undefined, this.closing.signal);
      return await this.verdictOf(ended);
    } catch (error) {
      if (this.closing.signal.aborted) return 'requeue';
      if (passes(error) || error instanceof ExecutionLostError) return { waitMs: waitMs(job) };
      if (!isBelayError(error)) throw error;
      // The job waits and is not refused: the release of the latch lets it run.
      if (error.code === 'LATCHED') return { waitMs: waitMs(job) };
      return { failed: reasonOf(error) };
    }
  }

  /** Its data may have changed since it was taken first, but the job is the same. */
  private async executionOf(job: ProducedJob): Promise<string> {
    const idempotencyKey = keyOf(this.options.queue, job.facts);
    try {
      const { execution } = await this.manager.submit(this.specOf(job), {
        idempotencyKey,
        actor: 'processor',
      });
      return execution.id;
    } catch (error) {
      const known = isBelayError(error) && error.code === 'IDEMPOTENCY_CONFLICT' && error.details['existing'];
      if (typeof known === 'string') return known;
      throw error;
    }
  }

  private specOf({ facts, data }: ProducedJob): ExecutionSpecInput {
    const { queue, labels, timeoutMs, graceMs, limits } = this.options;
    const input: JobInput = { ...facts, queue, data };
    const pool = jobPoolOf(queue);
    return {
      name: `${queue}/${facts.id}`.slice(0, 256),
      labels: { ...labels?.({ name: facts.name, data }), [QUEUE_LABEL]: queue, [JOB_LABEL]: facts.id },
      nodes: [
        {
          id: NODE,
          run: { handler: pool },
          pool,
          // As JSON has it: the queue's own fields may be undefined.
          input: JSON.parse(JSON.stringify(input)) as unknown,
          // BullMQ's own attempts decide about the job's failures.
          retryOn: 'lost',
          maxAttempts: ATTEMPTS,
          backoff: { type: 'fixed', delayMs: 0, jitter: 0 },
          timeoutMs,
          graceMs,
          limits,
        },
      ],
    };
  }

  private async verdictOf({ id, state, orderId, reason, error }: ExecutionRecord): Promise<JobVerdict> {
    const { executions, agents } = this.lifecycle;
    const node = await executions.node(id, NODE);
    if (state === 'completed') return { done: node.result };
    const agent =
      node.agentId === undefined ? undefined : await agents.get(node.agentId).catch(() => undefined);
    const order = agent?.orderId ?? orderId;
    // The agent was asked to end and nobody has seen it dead. That is no kill, and another attempt could run beside it.
    if (error?.code === 'UNCONFIRMED')
      return { failed: `UNCONFIRMED ${order ?? reason ?? id}: its processes may still run` };
    if (order !== undefined) return { failed: `KILLED ${order}` };
    if (state === 'stopped') return { failed: `STOPPED ${reason ?? ''}`.trimEnd() };
    const { code = 'FAILED', message = 'It failed.' } = node.error ?? error ?? {};
    return code === 'UNRECOVERABLE'
      ? { failed: message }
      : { error: Object.assign(new Error(message), { code }) };
  }
}

/** The key of one attempt of one job: BullMQ reuses an id after a queue was emptied, but not with the same time. */
function keyOf(queue: string, { id, timestamp, attemptsMade }: JobFacts): string {
  const text = JSON.stringify([queue, id, timestamp, attemptsMade]);
  return `job-${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
}
