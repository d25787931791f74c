import { DELIVERY_STATES, type DeliveryState, type WebhookDelivery } from '#libs/contracts';
import type { Server, Valkey } from '#libs/valkey';
import { Queue, UnrecoverableError, type Job, type JobType } from 'bullmq';
import type { QueueOptions } from './agent-queues';
import { requeue } from './requeue';
import { ThrottledWorker } from './throttled-worker';

/** A message to be delivered. */
export interface Delivery {
  /** The job's id: a message that is added again is not delivered again while its job is kept. */
  readonly id: string;
  readonly type: string;
  /** The bytes that are signed and sent, the same in every try. */
  readonly body: string;
}

/** The end of one try. Texts are stored with the job. */
export type DeliveryVerdict =
  | 'delivered'
  | { readonly retry: string }
  /** No further try. */
  | { readonly failed: string }
  /** Another orchestrator must take it: this one ends. The try does not count. */
  | 'requeue';

export interface DeliveryQueueOptions extends QueueOptions {
  readonly queue: string;
  /** The connection that every queue of deliveries of this process shares. */
  readonly connection: Server;
  /** Deliveries under way at a time. */
  readonly concurrency: number;
  readonly maxAttempts: number;
  /** The wait after try number `attempt`, from 1. Milliseconds. */
  readonly delayAfter: (attempt: number) => number;
}

/** Ended deliveries that are kept, of each kind. */
const KEPT = 500;
/** The delay of a requeued delivery. Milliseconds. */
const REQUEUE_MS = 300;
/** A list reads this many of each state. */
const LISTED = 50;

const BULLMQ_STATES = {
  waiting: 'waiting',
  delivering: 'active',
  retrying: 'delayed',
  delivered: 'completed',
  failed: 'failed',
} as const satisfies Record<DeliveryState, JobType>;

type Content = Omit<Delivery, 'id'>;
type DeliveryJob = Job<Content, void>;

/** The deliveries to one endpoint. BullMQ keeps them, retries them and gives each to one process at a time. */
export class DeliveryQueue {
  private readonly queue: Queue<Content, void>;
  private worker: ThrottledWorker<Content, void> | undefined;

  constructor(
    private readonly valkey: Valkey,
    private readonly options: DeliveryQueueOptions,
  ) {
    const { queue, connection, prefix } = options;
    this.queue = new Queue(queue, { connection, prefix });
    this.queue.on('error', () => undefined);
  }

  /** Stores deliveries. Repeatable: one that is kept already is not stored again. */
  async add(deliveries: readonly Delivery[]): Promise<void> {
    await this.queue.addBulk(
      deliveries.map(({ id, type, body }) => ({
        name: 'delivery',
        data: { type, body },
        opts: {
          jobId: id,
          attempts: this.options.maxAttempts,
          backoff: { type: 'belay' },
          removeOnComplete: { count: KEPT },
          removeOnFail: { count: KEPT },
          // The reason says everything; a stack would only name lines of Belay's.
          stackTraceLimit: 0,
        },
      })),
    );
  }

  /** Takes deliveries until `close`; `isLast`: no try follows a failed one. One whose process died is taken again, so a message may be sent twice. */
  consume(send: (delivery: Delivery, isLast: boolean) => Promise<DeliveryVerdict>): void {
    if (this.worker !== undefined) return;
    const { queue, connection, prefix, concurrency, delayAfter } = this.options;
    const worker = new ThrottledWorker<Content, void>(
      queue,
      async (job: DeliveryJob, token) => {
        const isLast = job.attemptsMade + 1 >= (job.opts.attempts ?? 1);
        return this.settle(job, token, await send(toDelivery(job), isLast));
      },
      {
        connection,
        prefix,
        concurrency,
        lockDuration: 10_000,
        stalledInterval: 5_000,
        // A process that died has sent a message once more at most. It must not lose the message.
        maxStalledCount: 100,
        settings: { backoffStrategy: (attempt) => delayAfter(attempt) },
      },
    );
    worker.on('error', () => undefined);
    this.worker = worker;
  }

  /** How many deliveries are not over, and how many failed for good and are kept. */
  async counts(): Promise<{ waiting: number; failed: number }> {
    const found = await this.queue.getJobCounts('waiting', 'active', 'delayed', 'failed');
    const { waiting = 0, active = 0, delayed = 0, failed = 0 } = found;
    return { waiting: waiting + active + delayed, failed };
  }

  /** The newest deliveries, the newest first: at most 50 in each state. */
  async newest(): Promise<WebhookDelivery[]> {
    const lists = await Promise.all(
      DELIVERY_STATES.map(async (state) =>
        ((await this.queue.getJobs(BULLMQ_STATES[state], 0, LISTED - 1)) as (DeliveryJob | undefined)[])
          // A job may end between the look at the list and the look at the job.
          .filter((job) => job !== undefined)
          .map((job) => describe(job, state)),
      ),
    );
    const byId = new Map(lists.flat().map((one) => [one.id, one]));
    return [...byId.values()].sort((a, b) => b.createdAt - a.createdAt);
  }

  /** Takes no more deliveries. Resolves when those under way were settled; their senders must end them now. */
  async close(): Promise<void> {
    await Promise.allSettled([this.worker?.close(), this.queue.close()]);
  }

  private async settle(job: DeliveryJob, token: string | undefined, verdict: DeliveryVerdict): Promise<void> {
    if (verdict === 'delivered') return;
    if (verdict === 'requeue') return requeue(job, token, this.valkey.clock.now() + REQUEUE_MS);
    if ('failed' in verdict) throw new UnrecoverableError(verdict.failed);
    throw new Error(verdict.retry);
  }
}

const toDelivery = (job: DeliveryJob): Delivery => ({
  id: job.id ?? '',
  type: job.data.type,
  body: job.data.body,
});

function describe(job: DeliveryJob, state: DeliveryState): WebhookDelivery {
  const { id = '', timestamp, attemptsMade, finishedOn, failedReason } = job;
  return {
    id,
    type: job.data.type,
    // A delivery that was requeued waits for its first try still.
    state: state === 'retrying' && attemptsMade === 0 ? 'waiting' : state,
    attempts: attemptsMade,
    createdAt: timestamp,
    ...(finishedOn === undefined ? {} : { endedAt: finishedOn }),
    ...(failedReason === undefined || failedReason === '' || state === 'delivered'
      ? {}
      : { error: failedReason }),
  };
}
