import type { LifecycleService } from '#libs/lifecycle';
import type { Server } from '#libs/valkey';
import { Queue, type JobProgress } from 'bullmq';
import type { QueueOptions } from './agent-queues';

/** At most this many lines of a job's log wait to be stored. Further ones are dropped, and the agent's own log has them. */
const MOST_LINES = 1_000;

interface Waiting {
  progress?: { readonly value: JobProgress };
  lines: string[];
}

/**
 * Stores the progress and the log of jobs in BullMQ, whichever process runs them: neither needs the job's lock. Only the newest
 * progress counts. Best effort: the execution's own record has both.
 */
export class JobRelay {
  private readonly queues = new Map<string, Queue>();
  private readonly waiting = new Map<string, Waiting>();
  private readonly sending = new Map<string, Promise<void>>();
  private connection: Server | undefined;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly options: QueueOptions,
  ) {}

  progress(queue: string, jobId: string, value: unknown): void {
    this.waitingOf(queue, jobId).progress = { value: value as JobProgress };
    this.send(queue, jobId);
  }

  log(queue: string, jobId: string, line: string): void {
    const { lines } = this.waitingOf(queue, jobId);
    if (lines.length < MOST_LINES) lines.push(line);
    this.send(queue, jobId);
  }

  /** Resolves when the messages are stored, or could not be. */
  async flush(): Promise<void> {
    await Promise.all(this.sending.values());
  }

  async close(): Promise<void> {
    await this.flush();
    await Promise.allSettled([...this.queues.values()].map(async (queue) => queue.close()));
    this.queues.clear();
  }

  private waitingOf(queue: string, jobId: string): Waiting {
    const key = keyOf(queue, jobId);
    const waiting = this.waiting.get(key) ?? { lines: [] };
    this.waiting.set(key, waiting);
    return waiting;
  }

  private send(queue: string, jobId: string): void {
    const key = keyOf(queue, jobId);
    if (this.sending.has(key)) return;
    const sent = this.sendAll(this.queue(queue), key, jobId).finally(() => this.sending.delete(key));
    this.sending.set(key, sent);
  }

  private async sendAll(queue: Queue, key: string, jobId: string): Promise<void> {
    for (let next = this.waiting.get(key); next !== undefined; next = this.waiting.get(key)) {
      this.waiting.delete(key);
      try {
        for (const line of next.lines) await queue.addJobLog(jobId, line);
        if (next.progress !== undefined) await queue.updateJobProgress(jobId, next.progress.value);
      } catch {
        // The job was removed, or the server is away: the execution's record has the message.
      }
    }
  }

  private queue(name: string): Queue {
    let queue = this.queues.get(name);
    if (queue === undefined) {
      this.connection ??= this.lifecycle.valkey.connections.create('blocking');
      queue = new Queue(name, { connection: this.connection, prefix: this.options.prefix });
      queue.on('error', () => undefined);
      this.queues.set(name, queue);
    }
    return queue;
  }
}

const keyOf = (queue: string, jobId: string): string => `${queue}:${jobId}`;
