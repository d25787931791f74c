import { hostname } from 'node:os';
import { readFileSync } from 'node:fs';
import { isBelayError, ownPoolOf, type AgentJob, type WorkerState } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import type { AuditStore, KillResponder, LatchStore } from '#libs/killswitch';
import { Phases, ServiceRun, type LifecycleService } from '#libs/lifecycle';
import {
  collectProofs,
  reportOfProof,
  type AgentRunner,
  type AgentSlot,
  type ProcessHost,
} from '#libs/spawner';
import type { ServiceLog } from '#libs/service';
import { within } from '#libs/valkey';
import type { Subscription } from 'rxjs';
import { BreakGlassLedger } from './break-glass-ledger';
import { Intake } from './intake';
import type { StoredEnds } from './stored-ends';

/** Agents of the worker's own pool at a time: a drill's. */
const OWN_CONCURRENCY = 8;

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
  readonly dataDir: string;
}

/** What whoever runs the worker is told. */
export interface WorkerHooks {
  /** The lease is lost for good and every agent is being killed: this worker must end. May come more than once. */
  readonly onLost: () => void;
  /** No heartbeat was acknowledged for `fenceAfterMs`: it stops its own agents, that many. */
  readonly onFenced?: (agents: number) => void;
  /** A heartbeat got through again after that. */
  readonly onContact?: () => void;
}

/** Exits that the event loop hands out this long after a silence ended may still be the guardian's work. */
const AFTER_SILENCE_MS = 2_000;
const CHECK_MS = 5_000;
/** A claim is here before it is granted; this only has to outlast a slow reply. */
const LOST_AFTER_MS = 30_000;
/** Longest each phase of a drain may take, beside the patience with agents. Milliseconds. */
const ANNOUNCE_MS = 12_000;
const STOP_MS = 10_000;
const INTAKE_MS = 5_000;
const HOST_MS = 10_000;
const RECORD_MS = 2_000;
const LOST_TRACK = {
  code: 'LOST_TRACK',
  message: 'Its worker has no process of it and does not know how it ended.',
};

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
  /** What a drain is at, and what it had to leave behind. */
  readonly phases = new Phases((phase, trouble) =>
    this.log.error({ phase, ...trouble }, `the drain leaves its phase "${phase}" behind`),
  );
  private httpPort: number | undefined;
  private patienceMs = Number.POSITIVE_INFINITY;
  /** Agents that a third signal ended: a drain that stops them is no calm one, however early they are gone. */
  private readonly cutShort = new Set<string>();
  /** Of our own record: makes a repeated transition ours. */
  private version = 1;
  private readonly intake: Intake;
  /** What was done here without the server. */
  readonly ledger: BreakGlassLedger;
  private beat: NodeJS.Timeout | undefined;
  private watch: NodeJS.Timeout | undefined;
  /** Monotonic time at which the last acknowledged heartbeat was sent. */
  private renewedAt = 0;
  private fenced = false;
  /** Monotonic time until which an exit by SIGKILL may be the guardian's work. */
  private silentUntil = 0;
  /** Monotonic; the first heartbeat looks: what died here before us may have left its proof. */
  private checkedAt = Number.NEGATIVE_INFINITY;
  private renewals: Subscription | undefined;
  /** A failover may have lost what this worker stored last. */
  private doubtful = false;
  private beating = true;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly queues: AgentQueues,
    private readonly host: ProcessHost,
    private readonly runner: AgentRunner,
    private readonly responder: KillResponder,
    private readonly latches: LatchStore,
    private readonly audit: AuditStore,
    private readonly ends: StoredEnds,
    private readonly options: WorkerOptions,
    private readonly log: ServiceLog,
    private readonly hooks: WorkerHooks,
  ) {
    this.intake = new Intake(options.workerId);
    this.ledger = new BreakGlassLedger(options.workerId);
  }

  get state(): WorkerState {
    return this.life.state;
  }

  get running(): number {
    return this.runner.busy;
  }

  /** idle → running: lease first, then the ears, then work. @throws BelayError DRAINING when it was drained before */
  start(httpPort?: number): Promise<void> {
    this.httpPort = httpPort;
    return this.life.start();
  }

  private async startOnce(): Promise<void> {
    const { workers } = this.lifecycle;
    const { workerId, leaseTtlMs, pools, concurrency } = this.options;
    // What dead workers of this host had left was ended before anything of ours began: that is proof for their receipts.
    for (const { workerId: dead, containment, processes, proved } of this.host.reaped)
      if (proved)
        await workers.saveProof(
          dead,
          reportOfProof({ workerId: dead, containment, processes, by: 'reaper' }),
        );
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
        ...(this.httpPort === undefined ? {} : { httpPort: String(this.httpPort) }),
      },
      leaseTtlMs,
    );
    this.renewals = this.lifecycle.valkey.renewed$.subscribe(() => (this.doubtful = true));
    this.renewedAt = sentAt;
    // From the first lease on: a worker that hangs before its first heartbeat is fenced too.
    this.host.armFence(this.options.fenceAfterMs, sentAt);
    await this.responder.start(ordersHead);
    ({ version: this.version } = await workers.transition(workerId, 'running', { version: 1 }));
    this.scheduleBeat();
    this.watch = setInterval(() => this.fenceWhenSilent(), Math.max(50, this.options.heartbeatMs / 4));
    const handle = async (job: AgentJob): Promise<boolean> => {
      // Admission closes here first: a job in flight goes back to its queue (R42).
      if (this.life.state !== 'running' || this.fenced || this.ledger.holding) return false;
      return this.runner.run(job);
    };
    for (const pool of pools) this.intake.add(pool, this.queues.consume(pool, concurrency, handle));
    // Beside the slots of the others: a drill must not wait behind what it is there to check.
    const own = ownPoolOf(workerId);
    this.intake.add(own, this.queues.consume(own, OWN_CONCURRENCY, handle));
  }

  /** Pools not taken from because of a latch or a freeze. */
  get closedPools(): string[] {
    return this.intake.closed;
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
      const { ordersHead, latchesVersion = 0 } = await this.lifecycle.workers.heartbeat(
        this.options.workerId,
        this.options.leaseTtlMs,
        this.runner.busy,
      );
      if (performance.now() - this.renewedAt > this.options.fenceAfterMs)
        this.silentUntil = performance.now() + AFTER_SILENCE_MS;
      this.renewedAt = sentAt;
      this.host.armFence(this.options.fenceAfterMs, sentAt);
      if (this.fenced) this.contactIsBack();
      await this.responder.noticeHead(ordersHead);
      await this.ledger.tell(this.latches, this.audit);
      if (latchesVersion !== this.intake.version)
        await this.intake.apply(latchesVersion, await this.latches.follow());
      await this.lookAfterOwn();
    } catch (error) {
      if (isBelayError(error) && (error.code === 'STALE_EPOCH' || error.code === 'NOT_FOUND')) {
        this.log.error('the lease ran out and was taken; stopping every agent of this worker');
        this.stopAll('immediate', 'worker_lost');
        this.hooks.onLost();
      } else this.log.warn({ err: error }, 'heartbeat failed');
    }
  }

  /** Whether silence was so long lately that the guardian may have ended our trees. */
  get wasSilent(): boolean {
    const now = performance.now();
    return now - this.renewedAt > this.options.fenceAfterMs || now < this.silentUntil;
  }

  /** By our own clock, which goes on while we are stopped: no heartbeat is missing for so long that others may act. */
  get leaseHolds(): boolean {
    return performance.now() - this.renewedAt < this.options.fenceAfterMs;
  }

  /** Now and then: attempts that are ours by the record but not here, and what died beside us on this host. */
  private async lookAfterOwn(): Promise<void> {
    const { doubtful } = this;
    if (!doubtful && performance.now() - this.checkedAt < CHECK_MS) return;
    this.doubtful = false;
    this.checkedAt = performance.now();
    await collectProofs(this.options.dataDir, async (proof) =>
      this.lifecycle.workers.saveProof(proof.workerId, reportOfProof(proof), proof.leaders),
    ).catch((error: unknown) => this.log.warn({ err: error }, 'proofs of dead workers'));
    const { agents, valkey } = this.lifecycle;
    const claimed = this.runner.slotsWhere(({ claimedAt }) => claimedAt !== undefined);
    const owned = await agents.ownedBy(this.options.workerId);
    const here = new Set(this.runner.agentIds());
    if (doubtful) await this.stopStrays(claimed, new Set(owned.map(({ id }) => id)));
    for (const { id, epoch, createdAt, unreadable } of owned) {
      // Nothing can be stored of it until it is mended.
      if (unreadable === true) continue;
      if (here.has(id) || (await this.ends.again(id)) || valkey.clock.now() - createdAt <= LOST_AFTER_MS)
        continue;
      this.log.error(
        { agentId: id },
        'an agent of this worker is not here any more; its end was never stored',
      );
      await agents.finish(
        { agentId: id, owner: this.options.workerId, epoch },
        { state: 'failed', reason: 'error', error: LOST_TRACK },
      );
    }
  }

  /** What was claimed here and is not ours by the record any more, as the claim was lost: it may be running elsewhere. */
  private async stopStrays(claimed: readonly AgentSlot[], owned: ReadonlySet<string>): Promise<void> {
    const { workerId } = this.options;
    for (const slot of claimed) {
      if (owned.has(slot.agentId)) continue;
      const record = await this.lifecycle.agents.get(slot.agentId).catch((error: unknown) => {
        if (isBelayError(error) && error.code === 'NOT_FOUND') return undefined;
        throw error;
      });
      if (record?.owner === workerId && record.epoch === slot.fence?.epoch) continue;
      this.log.error({ agentId: slot.agentId }, 'its claim was lost by a failover; stopping it');
      this.runner.stopWhere((one) => one === slot, {
        reason: 'worker_lost',
        mode: 'immediate',
        by: 'belay',
        endsAs: 'failed',
      });
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
    this.hooks.onFenced?.(count);
  }

  private contactIsBack(): void {
    this.fenced = false;
    this.log.info('contact with Valkey is back');
    this.hooks.onContact?.();
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
    const { patienceMs, phases } = this;
    if (started)
      await phases.run('announce', ANNOUNCE_MS, async () => {
        const { version } = await workers.transition(workerId, 'draining', { version: this.version });
        this.version = version;
      });
    // Closing ends the blocking wait for a job at once; it resolves when the jobs in hand are done.
    const closed = this.intake.close();
    const idle =
      (await within(
        this.runner.whenIdle().then(() => true),
        patienceMs,
      )) === true;
    const stopped = [...new Set([...this.cutShort, ...(idle ? [] : this.runner.agentIds())])];
    if (!idle) {
      this.log.warn({ agents: stopped }, `still running after ${patienceMs} ms; stopping them`);
      this.stopAll('graceful', 'server_shutdown');
      await phases.run('stop agents', graceMs + STOP_MS, async () => this.runner.whenIdle());
    }
    const forced = !idle || this.cutShort.size > 0;
    await phases.run('intake', INTAKE_MS, async () => closed);
    this.beating = false;
    clearTimeout(this.beat);
    clearInterval(this.watch);
    this.renewals?.unsubscribe();
    this.responder.stop();
    await phases.run('process host', HOST_MS, async () => this.host.close());
    // One that never ran has no record, or one that its lease takes away.
    if (started)
      await phases.run('record', RECORD_MS, async () =>
        workers.transition(workerId, 'stopped', { reason: forced ? 'forced' : 'drained' }),
      );
    await phases.run('queues', RECORD_MS, async () => this.queues.close());
    return { forced, stopped };
  }

  /** A third signal: no grace for anything; the exit code says so (R46). */
  force(): void {
    const claimed = this.runner.slotsWhere(({ claimedAt }) => claimedAt !== undefined);
    for (const { agentId } of claimed) this.cutShort.add(agentId);
    this.log.warn({ agents: [...this.cutShort] }, 'forced by a third signal; killing what is left');
    this.runner.stopWhere(() => true, {
      reason: 'server_shutdown',
      mode: 'immediate',
      by: 'belay',
      endsAs: 'failed',
      graceMs: 0,
    });
  }
}
