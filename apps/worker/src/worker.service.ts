import { hostname } from 'node:os';
import { readFileSync } from 'node:fs';
import { ownPoolOf, type AgentJob, type JobAnswer, type WorkerState } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import type { AttemptEnds } from '#libs/executions';
import type { AuditStore, KillResponder, LatchStore } from '#libs/killswitch';
import { PROOF_KEY, type Heartbeat, type LifecycleService } from '#libs/lifecycle';
import {
  collectProofs,
  describeUnproved,
  reportOfProof,
  forgetProof,
  type AgentRunner,
  type AgentSlot,
  type ProcessHost,
  type UnprovedEnd,
} from '#libs/spawner';
import { type ServiceLog, within, Phases, ServiceRun } from '#libs/service';
import {
  LeaseKeeper,
  OrphanReconciler,
  PoolConsumers,
  SideTasks,
  type SideTask,
  type OutcomeReplay,
} from '#libs/worker';
import { Subject, type Observable, type Subscription } from 'rxjs';
import { BreakGlassLedger } from './break-glass-ledger';

/** The side task that compares this worker's attempts with those on record. */
const OWN_AGENTS = 'own agents';
/** Agents of the worker's own pool at a time, for drills. */
const OWN_CONCURRENCY = 8;

export interface WorkerOptions {
  readonly workerId: string;
  readonly pools: readonly string[];
  /** The names of its handlers. */
  readonly handlers: readonly string[];
  /** Pools with slots of their own, beside `concurrency`. */
  readonly ownPools: ReadonlyMap<string, number>;
  readonly concurrency: number;
  readonly leaseTtlMs: number;
  readonly heartbeatMs: number;
  /** The silence, from the sending of the last acknowledged heartbeat, after which the worker stops its own agents. */
  readonly fenceAfterMs: number;
  readonly stopTimeoutMs: number;
  /** The grace of a drain. Milliseconds. */
  readonly graceMs: number;
  /** The grace of self-fencing, capped so that the fencing sum is met whatever grace a node has. Milliseconds. */
  readonly fenceGraceMs: number;
  readonly dataDir: string;
}

/** Callbacks to the program that runs the worker. */
export interface WorkerHooks {
  /** The lease is lost for good and every agent is being killed: this worker must end. May come more than once. */
  readonly onLost: () => void;
  /** No heartbeat was acknowledged for `fenceAfterMs`: the worker stops its own agents, `agents` of them. */
  readonly onFenced?: (agents: number) => void;
  /** A heartbeat was acknowledged again after that. */
  readonly onContact?: () => void;
}

/** The time between two looks at the attempts on record, and at proofs left on this host. Milliseconds. */
const CHECK_MS = 5_000;
/** Each phase of a drain may take this long, beside the patience with agents. Milliseconds. */
const ANNOUNCE_MS = 12_000;
const STOP_MS = 10_000;
const INTAKE_MS = 5_000;
const HOST_MS = 10_000;
const RECORD_MS = 2_000;
/** At most this many dead workers with an unproved end are remembered as reported. */
const MAX_TOLD = 1_000;
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
  /** The phases of the drain: the present one, and those that were left behind. */
  readonly phases = new Phases((phase, trouble) =>
    this.log.error({ phase, ...trouble }, `the drain goes on without its phase "${phase}"`),
  );
  private httpPort: number | undefined;
  private patienceMs = Number.POSITIVE_INFINITY;
  /** Agents that a third signal ended: then the drain was forced, however early they ended. */
  private readonly cutShort = new Set<AgentSlot>();
  /** The version of the worker's own record, which makes a repeated transition recognisable. */
  private version = 1;
  private readonly intake: PoolConsumers;
  /** Acts done on this worker without the server. */
  readonly ledger: BreakGlassLedger;
  /** The worker's right to its agents. */
  readonly lease: LeaseKeeper;
  /** The tasks that follow a heartbeat and must not delay one. */
  readonly beside: SideTasks;
  private readonly orphans: OrphanReconciler;
  private renewals: Subscription | undefined;
  private readonly renewed = new Subject<number>();
  /** Workers whose unproved end was reported. */
  private readonly toldUnproved = new Set<string>();
  /** The last acknowledged heartbeat. */
  private beat: Heartbeat | undefined;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly queues: AgentQueues,
    private readonly host: ProcessHost,
    private readonly runner: AgentRunner,
    private readonly responder: KillResponder,
    private readonly latches: LatchStore,
    private readonly audit: AuditStore,
    stored: OutcomeReplay,
    ends: AttemptEnds,
    private readonly options: WorkerOptions,
    private readonly log: ServiceLog,
    private readonly hooks: WorkerHooks,
  ) {
    this.intake = new PoolConsumers(options.workerId);
    this.ledger = new BreakGlassLedger(options.workerId);
    this.orphans = new OrphanReconciler(lifecycle, runner, stored, ends, options.workerId, log);
    this.beside = new SideTasks(this.sideTasks(), (error, task) =>
      this.log.warn({ err: error, task }, 'a task beside the heartbeat failed'),
    );
    this.lease = this.leaseKeeper();
  }

  get state(): WorkerState {
    return this.life.state;
  }

  get running(): number {
    return this.runner.busy;
  }

  /**
   * idle → running: the lease first, then the subscription to orders, then work. @throws BelayError DRAINING when it was
   * drained before
   */
  start(httpPort?: number): Promise<void> {
    this.httpPort = httpPort;
    return this.life.start();
  }

  private async startOnce(): Promise<void> {
    const { workers } = this.lifecycle;
    const { workerId, leaseTtlMs, handlers, concurrency, ownPools } = this.options;
    const pools = [...this.options.pools, ...ownPools.keys()];
    for (const { workerId: dead, proved, unproved } of this.host.reaped)
      if (!proved && unproved !== undefined)
        this.tellUnproved({ workerId: dead, by: 'reaper', why: describeUnproved(unproved) });
    const sentAt = performance.now();
    const { ordersHead } = await workers.register(
      workerId,
      {
        host: hostname(),
        pid: String(process.pid),
        bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
        pools: pools.join(','),
        ...(handlers.length === 0 ? {} : { handlers: handlers.join(',') }),
        concurrency: String(concurrency),
        containment: this.host.containment,
        isolation: this.host.isolation,
        grade: this.host.grade,
        [PROOF_KEY]: this.host.proofKey,
        ...(this.httpPort === undefined ? {} : { httpPort: String(this.httpPort) }),
      },
      leaseTtlMs,
    );
    this.renewals = this.lifecycle.valkey.renewed$.subscribe(() => {
      this.orphans.doubt();
      this.beside.hurry(OWN_AGENTS);
    });
    // From the first lease on, so that a worker that hangs before its first heartbeat is fenced too.
    this.lease.start(sentAt);
    await this.responder.start(ordersHead);
    ({ version: this.version } = await workers.transition(workerId, 'running', { version: 1 }));
    const handle = async (job: AgentJob): Promise<JobAnswer> => {
      // Admission closes here first: a job in flight goes back to its queue.
      if (this.life.state !== 'running' || this.lease.isFenced || this.ledger.holding) return 'refused';
      return this.runner.run(job);
    };
    for (const pool of pools)
      this.intake.add(pool, this.queues.consume(pool, ownPools.get(pool) ?? concurrency, handle));
    // With slots of its own: a drill must not wait behind the agents that it checks.
    const own = ownPoolOf(workerId);
    this.intake.add(own, this.queues.consume(own, OWN_CONCURRENCY, handle));
    this.runner.waiting.open();
  }

  /** How long each acknowledged heartbeat took, in milliseconds. */
  get renewed$(): Observable<number> {
    return this.renewed;
  }

  /** Pools from which the worker takes no job because of a latch or a freeze. */
  get closedPools(): string[] {
    return this.intake.closed;
  }

  private leaseKeeper(): LeaseKeeper {
    const { workerId, leaseTtlMs, heartbeatMs, fenceAfterMs } = this.options;
    const { workers, valkey } = this.lifecycle;
    const apart = valkey.scriptsApart();
    return new LeaseKeeper({
      heartbeatMs,
      fenceAfterMs,
      renew: async () => workers.heartbeat(workerId, leaseTtlMs, this.runner.busy, apart),
      armFence: (sentAt) => this.host.armFence(fenceAfterMs, sentAt),
      onRenewed: (beat, tookMs) => {
        this.beat = beat;
        this.renewed.next(tookMs);
        this.beside.wake();
      },
      onSilent: () => this.fence(),
      onContact: () => {
        this.log.info('contact with Valkey is back');
        this.hooks.onContact?.();
      },
      onTaken: () => {
        this.log.error('the lease ran out and was taken; stopping every agent of this worker');
        this.stopAll('immediate', 'worker_lost');
        this.hooks.onLost();
      },
      onTrouble: (error) => this.log.warn({ err: error }, 'heartbeat failed'),
    });
  }

  private sideTasks(): SideTask[] {
    return [
      {
        name: 'orders',
        run: async (signal) => this.beat && this.responder.noticeHead(this.beat, signal),
      },
      { name: 'ledger', run: async () => this.ledger.tell(this.latches, this.audit) },
      { name: 'latches', run: async (signal) => this.followLatches(signal) },
      { name: 'proofs', everyMs: CHECK_MS, run: async () => this.tellProofs() },
      { name: OWN_AGENTS, everyMs: CHECK_MS, run: async (signal) => this.orphans.look(signal) },
    ];
  }

  private async followLatches(signal: AbortSignal): Promise<void> {
    const { latchesVersion = 0 } = this.beat ?? {};
    if (latchesVersion === this.intake.version) return;
    const latches = await this.latches.follow();
    if (!signal.aborted) await this.intake.apply(latchesVersion, latches);
  }

  /** Reports proofs about dead workers that other workers of this host made. */
  private async tellProofs(): Promise<void> {
    const { dataDir, workerId } = this.options;
    await collectProofs(
      dataDir,
      async (proof, seal) => {
        const { workers } = this.lifecycle;
        const taken = await workers.saveFiledProof(proof.workerId, reportOfProof(proof), proof.leaders, seal);
        if (taken === 'refused')
          this.log.error(
            { worker: proof.workerId, dataDir },
            'a proof in the data directory was not signed by the worker that it names, and is set aside as a forgery: somebody who can write that directory put it there',
          );
        return taken;
      },
      {
        reaper: { workerId, host: hostname() },
        key: this.host.proofKey,
        checkSeal: async (seal) => this.lifecycle.workers.checkSeal(seal),
        onUnproved: (end) => this.tellUnproved(end),
      },
    );
  }

  /** Reports once for each worker, since a reaper tries again every few seconds. */
  private tellUnproved({ workerId: dead, by, why }: UnprovedEnd): void {
    const key = `${by} ${dead}`;
    if (this.toldUnproved.has(key)) return;
    if (this.toldUnproved.size >= MAX_TOLD) this.toldUnproved.clear();
    this.toldUnproved.add(key);
    const { dataDir } = this.options;
    this.log.error(
      { worker: dead, by, dataDir },
      `the end of what worker ${dead} had on this host is not proved: ${why}`,
    );
  }

  private fence(): void {
    const count = this.stopAll('graceful', 'worker_lost');
    this.log.error(
      { agents: count },
      `no contact with Valkey for ${this.options.fenceAfterMs} ms; stopping own agents`,
    );
    this.hooks.onFenced?.(count);
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
   * running → draining → stopped. Every caller shares one drain. `patienceMs`: how long agents may go on before they are
   * stopped.
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
    const ended = this.runner.waiting.close();
    const idle =
      (await within(
        this.runner.whenIdle().then(() => true),
        patienceMs,
      )) === true;
    const cutShort = [...this.cutShort].filter(isClaimed).map(({ agentId }) => agentId);
    const stopped = [...new Set([...cutShort, ...(idle ? [] : this.runner.agentIds())])];
    if (!idle) {
      this.log.warn({ agents: stopped }, `still running after ${patienceMs} ms; stopping them`);
      this.stopAll('graceful', 'server_shutdown');
      await phases.run('stop agents', graceMs + STOP_MS, async () => this.runner.whenIdle());
    }
    const forced = !idle || cutShort.length > 0;
    await phases.run('intake', INTAKE_MS, async () => closed);
    await phases.run('waiting processes', HOST_MS, async () => ended);
    this.lease.stop();
    this.beside.stop();
    this.renewals?.unsubscribe();
    this.responder.stop();
    await phases.run('process host', HOST_MS, async () => this.host.close({ keepProof: started }));
    // A worker that never ran has no record, or one that goes with its lease.
    if (started)
      await phases.run('record', RECORD_MS, async () => {
        await workers.transition(workerId, 'stopped', { reason: forced ? 'forced' : 'drained' });
        const owned = await this.lifecycle.agents.ownedBy(workerId);
        if (owned.length === 0) forgetProof(this.options.dataDir, workerId);
      });
    await phases.run('queues', RECORD_MS, async () => this.queues.close());
    return { forced, stopped };
  }

  /** A third signal: ends the grace of every agent; the exit code says so (docs/cli.md#belay-worker). */
  force(): void {
    // One whose claim is not answered yet may be granted still: the end of the drain knows.
    for (const slot of this.runner.slotsWhere(() => true)) this.cutShort.add(slot);
    const agents = [...this.cutShort].filter(isClaimed).map(({ agentId }) => agentId);
    this.log.warn({ agents }, 'forced by a third signal; killing the remaining agents');
    this.runner.stopWhere(() => true, {
      reason: 'server_shutdown',
      mode: 'immediate',
      by: 'belay',
      endsAs: 'failed',
      graceMs: 0,
    });
  }
}

const isClaimed = ({ claimedAt }: AgentSlot): boolean => claimedAt !== undefined;
