import { setTimeout as pause } from 'node:timers/promises';
import { isTransient } from '#libs/valkey';
import { Worker, type Job, type Processor, type WorkerOptions } from 'bullmq';

/** Between two tries to take or end a job, after the server refused one or a closed connection ended it. Milliseconds. */
const REFUSED_MS = 500;
/** A call whose connection broke is sent again no sooner than this: the first wait before a reconnect. Milliseconds. */
const RESENT_MS = 100;
/** This many of a queue's newest taken jobs are searched for a lost one. */
const LOOKED_THROUGH = 1_000;

/**
 * BullMQ's worker, with four repairs for a server in trouble.
 *
 * BullMQ asks for the next job again at once when the server refuses (READONLY, LOADING, NOREPLICAS, …): 70,000 calls a second
 * were measured. This worker waits in between.
 *
 * BullMQ waits for 15 s after a call that a closed connection ended, as a failover of a Cluster ends calls: until then it takes
 * and ends no job. This worker waits as long as after a refusal.
 *
 * When a connection breaks, ioredis sends a call again whose answer was lost. The first call may have taken a job that nobody
 * runs. BullMQ gives it to a worker only once its lock has run out and two rounds for stalled jobs have seen that (10 to 25 s).
 * This worker looks for the job by its token, and runs it.
 *
 * When the server refuses the report of a job's end, BullMQ fails the job with that refusal as its reason, or retries it. This
 * worker repeats the report. If the worker closes first, the job stays active, and is taken again once its lock has run out.
 */
export class ThrottledWorker<Data = unknown, Result = unknown, Name extends string = string> extends Worker<
  Data,
  Result,
  Name
> {
  constructor(name: string, processor: Processor<Data, Result, Name>, options: WorkerOptions) {
    super(name, processor, { runRetryDelay: REFUSED_MS, ...options });
  }

  protected override async moveToActive(token: string, name?: string): Promise<Job<Data, Result, Name>> {
    const sentAt = performance.now();
    try {
      const job = (await super.moveToActive(token, name)) as Job<Data, Result, Name> | undefined;
      if (performance.now() - sentAt < RESENT_MS) return job as Job<Data, Result, Name>;
      return (await this.alsoTaken(token, job)) as Job<Data, Result, Name>;
    } catch (error) {
      if (isTransient(error) && this.closing === undefined) await pause(REFUSED_MS);
      throw error;
    }
  }

  protected override async handleCompleted(
    ...args: Parameters<Worker<Data, Result, Name>['handleCompleted']>
  ): Promise<Job<Data, Result, Name>> {
    const [result, job, token] = args;
    try {
      return (await this.untilReported(async () => super.handleCompleted(...args))) as Job<
        Data,
        Result,
        Name
      >;
    } catch (error) {
      if (!isOver(error)) throw error;
      this.emit('completed', job, result, 'active');
      return (await this.alsoTaken(token)) as Job<Data, Result, Name>;
    }
  }

  protected override async handleFailed(
    ...args: Parameters<Worker<Data, Result, Name>['handleFailed']>
  ): Promise<Job<Data, Result, Name>> {
    const [error, job, token] = args;
    try {
      return (await this.untilReported(async () => super.handleFailed(...args))) as Job<Data, Result, Name>;
    } catch (problem) {
      if (!isOver(problem)) throw problem;
      this.emit('failed', job, error, 'active');
      return (await this.alsoTaken(token)) as Job<Data, Result, Name>;
    }
  }

  /**
   * Repeats the report of a job's end while the server refuses it. Resolves with the next job, if one was taken. A transient
   * error is never thrown: BullMQ would take it for the error of the job itself.
   */
  private async untilReported<T>(report: () => Promise<T>): Promise<T | undefined> {
    for (;;) {
      try {
        return await report();
      } catch (error) {
        if (!isTransient(error)) throw error;
        if (this.closing !== undefined) return undefined;
        await pause(REFUSED_MS);
      }
    }
  }

  /**
   * Jobs with the lock `token` that no process knows of. Returns `known`, or without it the first of them; the others go back
   * to the queue. Jobs that cannot be read now are left until their locks expire.
   */
  private async alsoTaken(
    token: string,
    known?: Job<Data, Result, Name>,
  ): Promise<Job<Data, Result, Name> | undefined> {
    try {
      const [taken = []] = await this.backend.getRanges(['active'], 0, LOOKED_THROUGH - 1);
      const others = taken.filter((id) => id !== known?.id);
      if (others.length === 0) return known;
      const foreign = new Set(
        await this.extendJobLocks(
          others,
          others.map(() => token),
          this.opts.lockDuration ?? 0,
        ),
      );
      const lost = others.filter((id) => !foreign.has(id));
      const [first] = known === undefined ? lost.splice(0, 1) : [];
      for (const id of lost) await this.backend.moveJobFromActiveToWait(id, token);
      const data = first === undefined ? undefined : await this.backend.getJobData(first);
      return data === undefined ? known : await this.nextJobFromJobData(data, first, token);
    } catch (error) {
      this.emit('error', error as Error);
      return known;
    }
  }
}

/** BullMQ's "there is no such job": a call whose answer was lost has stored its end. */
function isOver(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('Missing key for job');
}
