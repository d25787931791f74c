import { agentQueueName, parseAgentId, type AgentJob, type DispatchEntry } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { isPassing, parseStored, type Held, type Server } from '#libs/valkey';
import { Queue, type Worker } from 'bullmq';
import { CalmWorker } from './calm-worker';

export interface QueueOptions {
  /** BullMQ's own key prefix. */
  readonly prefix: string;
}

/** A job BullMQ lost is looked for this long after it was handed over. Milliseconds. */
const SECOND_LOOK_MS = 30_000;
/** A job handed back rests this long, so that the same worker does not take it in a tight loop. Milliseconds. */
const HAND_BACK_MS = 300;
const SWEEP_BATCH = 500;

/**
 * The agent queues. BullMQ carries an attempt's ids to a worker of its pool; it decides nothing. A job's id is the
 * agent's id, so adding twice is once, and an attempt stays in the outbox until it is claimed, so a job that BullMQ
 * lost is handed over again.
 */
export class AgentQueues {
  private readonly queues = new Map<string, Queue<AgentJob>>();
  private connection: Server | undefined;
  /** Attempts that rest before they are handed over again. */
  private readonly resting = new Set<NodeJS.Timeout>();

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly options: QueueOptions,
  ) {}

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

  /** Hands entries over to their pools' queues, then notes it. Twice is once; what a server refuses for now is left. */
  async dispatch(entries: readonly DispatchEntry[]): Promise<void> {
    if (entries.length === 0) return;
    try {
      await this.handOver(entries);
    } catch (error) {
      // What was asked for is stored: it stays in the outbox, and the next sweep hands it over.
      if (isPassing(error)) return;
      throw error;
    }
    await this.acknowledge(entries);
  }

  private async handOver(entries: readonly DispatchEntry[]): Promise<void> {
    const byPool = new Map<string, DispatchEntry[]>();
    for (const entry of entries) byPool.set(entry.pool, [...(byPool.get(entry.pool) ?? []), entry]);
    const timestamp = this.lifecycle.valkey.clock.now();
    await Promise.all(
      [...byPool].map(([pool, group]) =>
        this.queue(pool).addBulk(
          group.map(({ agentId, executionId, nodeId, attempt, priority, delayMs }) => ({
            name: 'agent',
            data: { agentId, executionId, nodeId, attempt },
            opts: {
              jobId: agentId,
              // BullMQ's 1 is the most urgent, ours is 10 (R32).
              priority: 11 - priority,
              delay: delayMs,
              // A delay counts from here: this machine's own clock may be anywhere.
              timestamp,
              attempts: 1,
              removeOnComplete: true,
              removeOnFail: true,
            },
          })),
        ),
      ),
    );
  }

  /** Removes the jobs of attempts that will never be claimed. Best effort: a claim of one that stays is refused. */
  async drop(attempts: readonly (readonly [agentId: string, pool: string])[]): Promise<void> {
    await Promise.allSettled(attempts.map(async ([agentId, pool]) => this.queue(pool).remove(agentId)));
  }

  /** Removes all of a pool's queue: nobody takes from it any more. Best effort. */
  async forget(pool: string): Promise<void> {
    const queue = this.queue(pool);
    this.queues.delete(pool);
    await queue.obliterate({ force: true }).catch(() => undefined);
    await queue.close().catch(() => undefined);
  }

  private async acknowledge(entries: readonly DispatchEntry[]): Promise<void> {
    await this.lookAgainAfter(entries, SECOND_LOOK_MS + Math.max(...entries.map(({ delayMs }) => delayMs)));
  }

  /** The next look of a sweep at those attempts, unless they were claimed by then. */
  private async lookAgainAfter(
    attempts: readonly Pick<AgentJob, 'agentId' | 'executionId'>[],
    ms: number,
  ): Promise<void> {
    const { keys, scripts } = this.lifecycle.valkey;
    const byTag = new Map<string, string[]>();
    for (const { agentId, executionId } of attempts) {
      const tag = keys.tagOf(executionId);
      byTag.set(tag, [...(byTag.get(tag) ?? []), agentId]);
    }
    for (const [tag, ids] of byTag)
      await scripts.run('ackOutbox', keys.shard(tag, 'outbox'), [tag, ms, ...ids]);
  }

  /** Hands over what a crash left in a shard's outbox, or what was handed over long ago and never claimed. */
  async sweep(tag: string, held?: Held): Promise<number> {
    const { valkey } = this.lifecycle;
    const { keys, redis, quarantine } = valkey;
    const now = await valkey.timeAt(keys.shard(tag, 'outbox:at'));
    const due = await redis.zrangebyscore(
      keys.shard(tag, 'outbox:at'),
      '-inf',
      // Entries younger than a second are on their way: whoever made them hands them over.
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
    await this.dispatch(entries);
    return entries.length;
  }

  /**
   * Takes jobs of a pool. BullMQ's retries and stalled recovery start nothing: `handle` must claim. A job it refuses
   * (false: this worker drains, or is fenced) is removed, and handed over again from the outbox for another worker (R42).
   */
  consume(pool: string, concurrency: number, handle: (job: AgentJob) => Promise<boolean>): Worker<AgentJob> {
    const refused = new Set<string>();
    const worker = new CalmWorker<AgentJob>(
      agentQueueName(pool),
      async (job) => {
        if (await handle(job.data)) return;
        // Should this process end before it can hand the attempt over again, a sweep does.
        await this.lookAgainAfter([job.data], HAND_BACK_MS);
        refused.add(job.data.agentId);
      },
      {
        connection: this.lifecycle.valkey.connections.create('blocking'),
        prefix: this.options.prefix,
        concurrency,
        autorun: true,
        // A job is a hint: when its lock is lost the other copy's claim is refused, and the outbox repairs a lost one.
        maxStalledCount: 10,
        // A job taken by a worker that died before its claim is back after lock + interval; a lock lost to a busy
        // event loop costs one refused claim.
        lockDuration: 10_000,
        stalledInterval: 5_000,
      },
    );
    worker.on('error', () => undefined);
    // Only now is the job removed, and its id free.
    worker.on('completed', ({ data, opts: { priority = 0 } }) => {
      if (!refused.delete(data.agentId)) return;
      const entry = { ...data, pool, priority: 11 - priority, delayMs: 0 };
      this.handOverAfter(entry, worker.closing === undefined ? HAND_BACK_MS : 0);
    });
    return worker;
  }

  /** By this process's timer: BullMQ compares a delay with the wall clock of whichever machine looks. */
  private handOverAfter(entry: DispatchEntry, ms: number): void {
    const timer = setTimeout(() => {
      this.resting.delete(timer);
      // What fails here stays in the outbox.
      this.dispatch([entry]).catch(() => undefined);
    }, ms);
    this.resting.add(timer);
  }

  async close(): Promise<void> {
    for (const timer of this.resting) clearTimeout(timer);
    this.resting.clear();
    await Promise.allSettled([...this.queues.values()].map(async (queue) => queue.close()));
    this.queues.clear();
  }
}

const executionOf = (agentId: string): string => parseAgentId(agentId)?.executionId ?? '';
