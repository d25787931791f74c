import { PRODUCERS_QUEUE, type ProducerProgress, type ProducerResult } from '#libs/contracts';
import type { Connections } from '#libs/valkey';
import { Queue } from 'bullmq';
import type { Submitted } from './asker';
import { atMost, pause, uptime } from './clock';
import type { ProducedFacts, Span } from './history';

const ADDED_WITHIN_MS = 5_000;
/** The time for its execution to be known to acts that stop it; a later one is looked up at the end. */
const KNOWN_WITHIN_MS = 1_500;
const LOOK_MS = 50;

interface Handed {
  readonly name: string;
  readonly jobId: string;
  readonly entry: Submitted;
  accepted: boolean;
  readonly from: number;
  /** When the queue had answered. */
  to?: number;
}

/** A producer with nothing but BullMQ: it adds jobs, and reads from them the outcomes of its specs. */
export class Producer {
  #queue: Queue | undefined;
  readonly #handed: Handed[] = [];
  /** By execution, as soon as it is named. */
  readonly executions: Record<string, Span> = {};

  constructor(
    private readonly connections: Connections,
    private readonly prefix: string,
    private readonly mark: string,
  ) {}

  /** Adds one job by its id, however often it is called. `entry` gets the id of its execution. */
  async submit(name: string, spec: unknown, entry: Submitted): Promise<void> {
    const handed: Handed = { name, jobId: `${this.mark}-${name}`, entry, accepted: false, from: uptime() };
    this.#handed.push(handed);
    const adding = this.#open()
      .add(name, spec, { jobId: handed.jobId })
      .then(
        () => true,
        () => false,
      );
    handed.accepted = (await atMost(ADDED_WITHIN_MS, adding)) === true;
    handed.to = uptime();
    if (!handed.accepted) entry.refused = 'the queue did not take it';
    const until = performance.now() + KNOWN_WITHIN_MS;
    while (handed.accepted && !(await this.#isKnown(handed)) && performance.now() < until)
      await pause(LOOK_MS);
  }

  /** Whether each accepted job has its execution, or has ended without one. */
  async areAllKnown(): Promise<boolean> {
    const known = await Promise.all(
      this.#handed.filter(({ accepted }) => accepted).map(async (one) => this.#isKnown(one)),
    );
    return known.every(Boolean);
  }

  /** Whether each accepted job has ended. */
  async areAllOver(): Promise<boolean> {
    return (await this.facts()).every(({ accepted, job }) => !accepted || job !== undefined);
  }

  async facts(): Promise<ProducedFacts[]> {
    return Promise.all(
      this.#handed.map(async ({ name, accepted, jobId, entry, from, to }): Promise<ProducedFacts> => {
        const span = to === undefined ? undefined : { from, to };
        const base = { name, accepted, executionId: entry.id, span };
        // The state first: a job that is read before it ends has no return value, whatever its state is then.
        const state = await this.#open().getJobState(jobId);
        const job = await this.#open().getJob(jobId);
        if (job === undefined) return base;
        if (state === 'failed') return { ...base, job: { failed: job.failedReason } };
        if (state !== 'completed') return base;
        const { status, finalCostUsd, executionId } = job.returnvalue as ProducerResult;
        return { ...base, executionId, job: { status, costUsd: finalCostUsd } };
      }),
    );
  }

  async close(): Promise<void> {
    await atMost(ADDED_WITHIN_MS, this.#queue?.close().catch(() => undefined) ?? Promise.resolve());
    await this.#queue?.disconnect().catch(() => undefined);
  }

  async #isKnown({ jobId, entry, from }: Handed): Promise<boolean> {
    const job = await atMost(
      ADDED_WITHIN_MS,
      this.#open()
        .getJob(jobId)
        .catch(() => undefined),
    );
    const progress = job?.progress as ProducerProgress | undefined;
    if (typeof progress === 'object' && 'executionId' in progress) {
      entry.id = progress.executionId;
      this.executions[entry.id] ??= { from, to: uptime() };
    }
    return entry.id !== undefined || job?.finishedOn !== undefined;
  }

  #open(): Queue {
    if (this.#queue === undefined) {
      this.#queue = new Queue(PRODUCERS_QUEUE, {
        connection: this.connections.create('blocking'),
        prefix: this.prefix,
      });
      this.#queue.on('error', () => undefined);
    }
    return this.#queue;
  }
}
