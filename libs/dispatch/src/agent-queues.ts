import {
  agentQueueName,
  parseAgentId,
  type AgentJob,
  type DispatchEntry,
  type JobAnswer,
} from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { isTransient, parseStored, type Held, type Server } from '#libs/valkey';
import { Queue, type Worker } from 'bullmq';
import { ThrottledWorker } from './throttled-worker';

export interface QueueOptions {
  /** BullMQ's own key prefix. */
  readonly prefix: string;
}

/** A sweep looks for a job this long after its hand-over, since BullMQ may have lost it. Milliseconds. */
const SECOND_LOOK_MS = 30_000;
/** An end wakes an attempt that waits for a limit. This look is for a server that lost the wait. Milliseconds. */
const LIMITED_LOOK_MS = 600_000;
/** A requeued job is delayed by this, so that the same worker does not take it in a tight loop. Milliseconds. */
const REQUEUE_MS = 300;
/** Only a sweep ends a longer wait, to its second: no process need live that long. Milliseconds. */
const LONGEST_TIMER_MS = 60_000;
/** Beyond this many waits the sweep ends them too. */
const MOST_TIMERS = 10_000;
const SWEEP_BATCH = 500;

/**
 * The agent queues. BullMQ carries an attempt's ids to a worker of its pool, and decides nothing. A job's id is the agent's id,
 * so adding is idempotent. An attempt stays in the outbox until a worker claims it, so a job that BullMQ lost is handed over
 * again (ADR 0006).
 */
export class AgentQueues {
  private readonly queues = new Map<string, Queue<AgentJob>>();
  private connection: Server | undefined;
  private readonly woken: { unsubscribe(): void };
  /** Attempts that wait before they are handed over again. */
  private readonly resting = new Set<NodeJS.Timeout>();

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly options: QueueOptions,
  ) {
    this.woken = lifecycle.agents.woken$.subscribe((entries) => {
      // If this fails, the janitor hands them over.
      this.dispatch(entries).catch(() => undefined);
    });
  }

  private get shared(): Server {
    return (this.connection ??= this.lifecycle.valkey.connections.create('blocking'));
  }

  private queue(pool: string): Queue<AgentJob> {
    let queue = this.queues.get(pool);
    if (queue === undefined) {
      queue = new Queue<AgentJob>(agentQueueName(pool), {
        connection: this.shared,
        prefix: this.options.prefix,
      });
      queue.on('error', () => undefined);
      this.queues.set(pool, queue);
    }
    return queue;
  }

  /**
   * Hands entries over to their pools' queues, then notes that. Repeatable. Entries that the server refuses for now stay in the
   * outbox. An entry with a wait is handed over after the wait: by this process, or by a sweep that finds it due by the
   * server's clock.
   */
  async dispatch(entries: readonly DispatchEntry[]): Promise<void> {
    for (const entry of entries) if (entry.delayMs > 0) this.handOverAfter(entry, entry.delayMs);
    await this.dispatchNow(
      entries.filter(({ delayMs }) => delayMs <= 0),
      false,
    );
  }

  private async dispatchNow(entries: readonly DispatchEntry[], isSweep: boolean): Promise<void> {
    if (entries.length === 0) return;
    let passed: readonly DispatchEntry[];
    try {
      passed = await this.passing(entries);
      await this.handOver(passed);
    } catch (error) {
      // The entry is stored in the outbox, so the next sweep hands it over.
      if (isTransient(error)) return;
      throw error;
    }
    await this.postponeLook(passed, SECOND_LOOK_MS, isSweep);
    const waiting = entries.filter((entry) => !passed.includes(entry));
    await this.postponeLook(waiting, LIMITED_LOOK_MS, isSweep);
  }

  /** The entries that no full limit delays. The others wait outside BullMQ, where no worker takes their jobs in vain. */
  private async passing(entries: readonly DispatchEntry[]): Promise<readonly DispatchEntry[]> {
    const limited = entries.filter(({ limits }) => limits !== undefined);
    if (limited.length === 0) return entries;
    const answers = await this.lifecycle.slots.gate(limited);
    const kept = new Set(limited.filter((_, i) => answers[i] === false));
    return entries.filter((entry) => !kept.has(entry));
  }

  private async handOver(entries: readonly DispatchEntry[]): Promise<void> {
    const byPool = new Map<string, DispatchEntry[]>();
    for (const entry of entries) byPool.set(entry.pool, [...(byPool.get(entry.pool) ?? []), entry]);
    await Promise.all(
      [...byPool].map(([pool, group]) =>
        this.queue(pool).addBulk(
          group.map(({ agentId, executionId, nodeId, attempt, priority }) => ({
            name: 'agent',
            data: { agentId, executionId, nodeId, attempt },
            opts: {
              jobId: agentId,
              // BullMQ's 1 is the most urgent, Belay's is 10.
              priority: 11 - priority,
              attempts: 1,
              removeOnComplete: true,
              removeOnFail: true,
            },
          })),
        ),
      ),
    );
  }

  /** Removes the jobs of attempts that no worker will claim. Best effort: a claim by a job that stays is refused. */
  async drop(
    attempts: readonly (readonly [agentId: string, pool: string])[],
    isLimited = true,
  ): Promise<void> {
    if (attempts.length === 0) return;
    if (isLimited) {
      const ids = attempts.map(([agentId]) => agentId);
      const woken = await this.lifecycle.slots.free(ids, 'waiting').catch(() => []);
      await this.dispatch(woken).catch(() => undefined);
    }
    await Promise.allSettled(attempts.map(async ([agentId, pool]) => this.queue(pool).remove(agentId)));
  }

  /** BullMQ's own counts of a pool's jobs, by BullMQ's names of their states. */
  async counts(pool: string): Promise<Record<string, number>> {
    return this.queue(pool).getJobCounts();
  }

  /** Removes all of a pool's queue, from which no worker takes jobs any more. Best effort. */
  async forget(pool: string): Promise<void> {
    const queue = this.queue(pool);
    this.queues.delete(pool);
    await queue.obliterate({ force: true }).catch(() => undefined);
    await queue.close().catch(() => undefined);
  }

  /** Sets a sweep's next look at those attempts, unless they were claimed by then. */
  private async postponeLook(
    attempts: readonly Pick<AgentJob, 'agentId' | 'executionId'>[],
    ms: number,
    isSweep: boolean,
  ): Promise<void> {
    const { keys, scripts } = this.lifecycle.valkey;
    const byTag = new Map<string, string[]>();
    for (const { agentId, executionId } of attempts) {
      const tag = keys.tagOf(executionId);
      byTag.set(tag, [...(byTag.get(tag) ?? []), agentId]);
    }
    for (const [tag, ids] of byTag)
      await scripts.run('ackOutbox', keys.shard(tag, 'outbox'), [tag, ms, isSweep ? 1 : 0, ...ids]);
  }

  /** Hands over attempts that a crash left in a shard's outbox, or that were handed over long ago and never claimed. */
  async sweep(tag: string, held?: Held): Promise<number> {
    const { valkey } = this.lifecycle;
    const { keys, redis, quarantine } = valkey;
    const now = await valkey.timeAt(keys.shard(tag, 'outbox:at'));
    const due = await redis.zrangebyscore(
      keys.shard(tag, 'outbox:at'),
      '-inf',
      // The process that made a younger entry hands it over itself.
      now - 1_000,
      'LIMIT',
      0,
      SWEEP_BATCH + (held?.size ?? 0),
    );
    const key = keys.shard(tag, 'outbox');
    const wanted = due.filter(
      (id) => held?.record(key, id) !== true && held?.execution(executionOf(id)) !== true,
    );
    if (wanted.length === 0) return 0;
    const texts = await redis.hmget(key, ...wanted);
    const entries: DispatchEntry[] = [];
    for (const [i, text] of texts.entries()) {
      if (text === null) continue;
      const entry = await quarantine.readable(key, async () =>
        parseStored<DispatchEntry>(key, text, wanted[i]),
      );
      if (entry !== undefined) entries.push(entry);
    }
    await this.dispatchNow(entries, true);
    return entries.length;
  }

  /**
   * Takes jobs of a pool. BullMQ's retries and stalled recovery start nothing: `handle` must claim. A job that it refuses (this
   * worker drains, or is fenced) is removed, and handed over again from the outbox for another worker.
   */
  consume(
    pool: string,
    concurrency: number,
    handle: (job: AgentJob) => Promise<JobAnswer>,
  ): Worker<AgentJob> {
    const answers = new Map<string, JobAnswer>();
    const worker = new ThrottledWorker<AgentJob>(
      agentQueueName(pool),
      async (job) => {
        const answer = await handle(job.data);
        if (answer === 'done') return;
        // If this process ends before it hands the attempt over again, a sweep does.
        if (answer === 'limited') await this.postponeLook([job.data], LIMITED_LOOK_MS, false);
        if (answer === 'refused') await this.postponeLook([job.data], REQUEUE_MS, false);
        answers.set(job.data.agentId, answer);
      },
      {
        connection: this.lifecycle.valkey.connections.create('blocking'),
        prefix: this.options.prefix,
        concurrency,
        autorun: true,
        // A job is a hint: when its lock is lost, the claim of the other copy is refused, and the outbox repairs a lost job.
        maxStalledCount: 10,
        // A job whose worker died before its claim is back after lock + interval. A lock that a busy event loop loses costs one
        // refused claim.
        lockDuration: 10_000,
        stalledInterval: 5_000,
      },
    );
    worker.on('error', () => undefined);
    // The job is removed only now, and its id is free.
    worker.on('completed', ({ data, opts: { priority = 0 } }) => {
      const answer = answers.get(data.agentId);
      if (!answers.delete(data.agentId)) return;
      const entry = { ...data, pool, priority: 11 - priority, delayMs: 0 };
      if (answer === 'parked') void this.handOverFreed(entry);
      else if (answer === 'limited') void this.handOverWoken(entry);
      else this.handOverAfter(entry, worker.closing === undefined ? REQUEUE_MS : 0);
    });
    return worker;
  }

  /** By this process's timer: BullMQ would compare a delay with the wall clock of any machine that looks. */
  private handOverAfter(entry: DispatchEntry, ms: number): void {
    if (ms > LONGEST_TIMER_MS || this.resting.size >= MOST_TIMERS) return;
    const timer = setTimeout(() => {
      this.resting.delete(timer);
      // On failure the entry stays in the outbox.
      this.handOverRested(entry).catch(() => undefined);
    }, ms);
    this.resting.add(timer);
  }

  /** Hands an attempt over unless it was cancelled during its wait, which may have been long. */
  private async handOverRested(entry: DispatchEntry): Promise<void> {
    const { keys, redis } = this.lifecycle.valkey;
    const outbox = keys.shard(keys.tagOf(entry.executionId), 'outbox');
    if (entry.delayMs > 0 && (await redis.hexists(outbox, entry.agentId)) === 0) return;
    await this.dispatchNow([{ ...entry, delayMs: 0 }], false);
  }

  /** An attempt that was let go on while its job was still here was handed over under a job id in use, which has no effect. */
  private async handOverFreed(entry: DispatchEntry): Promise<void> {
    const { keys, scripts } = this.lifecycle.valkey;
    const tag = keys.tagOf(entry.executionId);
    try {
      const args = [tag, entry.executionId, entry.agentId];
      const isFree = await scripts.run('freeParked', keys.shard(tag, 'outbox'), args);
      // On failure the entry is due: the next sweep hands it over.
      if (isFree === 1) await this.dispatchNow([entry], true);
    } catch {
      // A sweep looks at it again later, as at any attempt that was handed over.
    }
  }

  /** An attempt that was woken while its job was still here was handed over under a job id in use, which has no effect. */
  private async handOverWoken(entry: DispatchEntry): Promise<void> {
    try {
      if (await this.lifecycle.slots.isWoken(entry.agentId)) await this.dispatchNow([entry], true);
    } catch {
      // The janitor hands over again the attempts that were woken and not claimed.
    }
  }

  /** Nest calls it: nothing of the queues outlives the application. Their connection closes with Valkey's. */
  onApplicationShutdown(): void {
    void this.close();
  }

  async close(): Promise<void> {
    this.woken.unsubscribe();
    for (const timer of this.resting) clearTimeout(timer);
    this.resting.clear();
    await Promise.allSettled([...this.queues.values()].map(async (queue) => queue.close()));
    this.queues.clear();
  }
}

const executionOf = (agentId: string): string => parseAgentId(agentId)?.executionId ?? '';
