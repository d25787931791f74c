import { hostname } from 'node:os';
import { readFileSync } from 'node:fs';
import { isBelayError, type WorkerState } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import type { KillResponder } from '#libs/killswitch';
import { ServiceRun, type LifecycleService } from '#libs/lifecycle';
import type { AgentRunner, ProcessHost } from '#libs/spawner';
import type { Logger } from 'pino';

export interface WorkerOptions {
  readonly workerId: string;
  readonly pools: readonly string[];
  readonly concurrency: number;
  readonly leaseTtlMs: number;
  readonly heartbeatMs: number;
  /** Silence, counted from the sending of the last acknowledged heartbeat, after which it stops its own agents. */
  readonly fenceAfterMs: number;
  readonly stopTimeoutMs: number;
  /** Grace of a drain. Milliseconds. */
  readonly graceMs: number;
  /** Grace of self-fencing, capped so that the fencing sum holds whatever a node asks for. Milliseconds. */
  readonly fenceGraceMs: number;
}

/** How a drain went: `forced` when agents had to be stopped. */
export interface DrainResult {
  readonly forced: boolean;
  readonly stopped: readonly string[];
}

/** A worker node: takes attempts from its pools, keeps its lease, obeys orders, drains once. */
export class WorkerService {
  private readonly life = new ServiceRun<DrainResult>({
    start: async () => this.startOnce(),
    drain: async (started) => this.drainOnce(started),
  });
  private httpPort = 0;
  private patienceMs = Number.POSITIVE_INFINITY;
  /** Of our own record: makes a repeated transition ours. */
  private version = 1;
  private consumers: ReturnType<AgentQueues['consume']>[] = [];
  private beat: NodeJS.Timeout | undefined;
  private watch: NodeJS.Timeout | undefined;
  /** Monotonic time at which the last acknowledged heartbeat was sent. */
  private renewedAt = 0;
  private fenced = false;
  private beating = true;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly queues: AgentQueues,
    private readonly host: ProcessHost,
    private readonly runner: AgentRunner,
    private readonly responder: KillResponder,
    private readonly options: WorkerOptions,
    private readonly log: Logger,
    /** Called when the lease is lost for good: this process must end. */
    private readonly onLost: () => void,
  ) {}

  get state(): WorkerState {
    return this.life.state;
  }

  get running(): number {
    return this.runner.busy;
  }

  /** idle → running: lease first, then the ears, then work. @throws BelayError DRAINING when it was drained before */
  start(httpPort: number): Promise<void> {
    this.httpPort = httpPort;
    return this.life.start();
  }

  private async startOnce(): Promise<void> {
    const { workers } = this.lifecycle;
    const { workerId, leaseTtlMs, pools, concurrency } = this.options;
    const sentAt = performance.now();
    const { ordersHead } = await workers.register(
      workerId,
      {
        host: hostname(),
        pid: String(process.pid),
        bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
        pools: pools.join(','),
        concurrency: String(concurrency),
        containment: this.host.containment,
        httpPort: String(this.httpPort),
      },
      leaseTtlMs,
    );
    this.renewedAt = sentAt;
    await this.responder.start(ordersHead);
    ({ version: this.version } = await workers.transition(workerId, 'running', { version: 1 }));
    this.scheduleBeat();
    this.watch = setInterval(() => this.fenceWhenSilent(), Math.max(50, this.options.heartbeatMs / 4));
    this.consumers = pools.map((pool) =>
      this.queues.consume(pool, concurrency, async (job) => {
        // Admission closes here first: a job in flight goes back to its queue (R42).
        if (this.life.state !== 'running' || this.fenced) return false;
        return this.runner.run(job);
      }),
    );
  }

  private scheduleBeat(): void {
    this.beat = setTimeout(
      () => void this.heartbeat().finally(() => this.beating && this.scheduleBeat()),
      this.options.heartbeatMs,
    );
  }

  private async heartbeat(): Promise<void> {
    const sentAt = performance.now();
    try {
      const { ordersHead } = await this.lifecycle.workers.heartbeat(
        this.options.workerId,
        this.options.leaseTtlMs,
        this.runner.busy,
      );
      this.renewedAt = sentAt;
      this.host.armFence(this.options.fenceAfterMs);
      if (this.fenced) this.log.info('contact with Valkey is back');
      this.fenced = false;
      await this.responder.noticeHead(ordersHead);
    } catch (error) {
      if (isBelayError(error) && (error.code === 'STALE_EPOCH' || error.code === 'NOT_FOUND')) {
        this.log.error('the lease ran out and was taken; stopping every agent of this worker');
        this.stopAll('immediate', 'worker_lost');
        this.onLost();
      } else this.log.warn({ err: error }, 'heartbeat failed');
    }
  }

  /** Before anyone else may get our lease, nothing of ours runs any more. */
  private fenceWhenSilent(): void {
    if (this.fenced || performance.now() - this.renewedAt < this.options.fenceAfterMs) return;
    this.fenced = true;
    const count = this.stopAll('graceful', 'worker_lost');
    this.log.error(
      { agents: count },
      `no contact with Valkey for ${this.options.fenceAfterMs} ms; stopping own agents`,
    );
  }

  private stopAll(mode: 'graceful' | 'immediate', reason: 'worker_lost' | 'server_shutdown'): number {
    return this.runner.stopWhere(() => true, {
      reason,
      mode,
      by: 'belay',
      endsAs: 'failed',
      graceMs: reason === 'worker_lost' ? this.options.fenceGraceMs : this.options.graceMs,
    });
  }

  /**
   * running → draining → stopped. Every caller shares one drain (R46). `patienceMs`: how long agents may go on before
   * they are stopped.
   */
  drain(patienceMs = this.options.stopTimeoutMs): Promise<DrainResult> {
    this.patienceMs = Math.min(this.patienceMs, patienceMs);
    return this.life.drain();
  }

  private async drainOnce(started: boolean): Promise<DrainResult> {
    const { workers } = this.lifecycle;
    const { workerId, graceMs } = this.options;
    const { patienceMs } = this;
    if (started)
      await workers
        .transition(workerId, 'draining', { version: this.version })
        .then(({ version }) => (this.version = version))
        .catch((error: unknown) => this.log.warn({ err: error }, 'draining'));
    // Closing ends the blocking wait for a job at once; it resolves when the jobs in hand are done.
    const closed = Promise.allSettled(this.consumers.map(async (consumer) => consumer.close()));
    const calm = await within(this.runner.whenIdle(), patienceMs);
    const stopped = calm ? [] : this.runner.agentIds();
    if (!calm) {
      this.log.warn({ agents: stopped }, `still running after ${patienceMs} ms; stopping them`);
      this.stopAll('graceful', 'server_shutdown');
      await within(this.runner.whenIdle(), graceMs + 10_000);
    }
    await within(closed, 5_000);
    this.beating = false;
    clearTimeout(this.beat);
    clearInterval(this.watch);
    this.responder.stop();
    await this.host.close();
    await within(
      workers.transition(workerId, 'stopped', { reason: calm ? 'drained' : 'forced' }).catch(() => undefined),
      2_000,
    );
    await within(this.queues.close(), 2_000);
    return { forced: !calm, stopped };
  }

  /** A third signal: no grace for anything. */
  force(): void {
    this.runner.stopWhere(() => true, {
      reason: 'server_shutdown',
      mode: 'immediate',
      by: 'belay',
      endsAs: 'failed',
      graceMs: 0,
    });
  }
}

/** Whether `work` settled within `ms`. */
async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([work.then(() => true), limit]);
  } finally {
    clearTimeout(timer);
  }
}
