import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { Inject, Injectable } from '@nestjs/common';
import type { WorkerState } from '#libs/contracts';
import { KillResponder } from '#libs/killswitch';
import { LifecycleService, PROOF_KEY } from '#libs/lifecycle';
import { Phases, ServiceRun, within, type ServiceLog } from '#libs/service';
import { AgentSlots, forgetProof, PROCESS_HOST, type AgentSlot, type ProcessHost } from '#libs/spawner';
import type { Subscription } from 'rxjs';
import { LeaseKeeper } from './lease-keeper';
import { OrphanReconciler } from './orphan-reconciler';
import { OWN_AGENTS } from './own-side-tasks';
import { PoolConsumers } from './pool-consumers';
import { ProofCollector } from './proof-collector';
import { SideTasks } from './side-tasks';
import { stopAll } from './stop-all';
import { WORKER_LOG, WORKER_OPTIONS, type WorkerOptions } from './worker-options';

/** Each phase of a drain may take this long, beside the patience with agents. Milliseconds. */
const ANNOUNCE_MS = 12_000;
const STOP_MS = 10_000;
const INTAKE_MS = 5_000;
const HOST_MS = 10_000;
const RECORD_MS = 2_000;

/** How a drain went: `forced` when agents had to be stopped. */
export interface DrainResult {
  readonly forced: boolean;
  readonly stopped: readonly string[];
}

/** A worker node: takes attempts from its pools, keeps its lease, obeys orders, drains once. */
@Injectable()
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
  private renewals: Subscription | undefined;

  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(PROCESS_HOST) private readonly host: ProcessHost,
    @Inject(AgentSlots) private readonly agents: AgentSlots,
    @Inject(KillResponder) private readonly responder: KillResponder,
    @Inject(LeaseKeeper) private readonly lease: LeaseKeeper,
    @Inject(SideTasks) private readonly beside: SideTasks,
    @Inject(OrphanReconciler) private readonly orphans: OrphanReconciler,
    @Inject(PoolConsumers) private readonly intake: PoolConsumers,
    @Inject(ProofCollector) private readonly proofs: ProofCollector,
    @Inject(WORKER_OPTIONS) private readonly options: WorkerOptions,
    @Inject(WORKER_LOG) private readonly log: ServiceLog,
  ) {
    lease.renewed$.subscribe(() => beside.wake());
  }

  get state(): WorkerState {
    return this.life.state;
  }

  get running(): number {
    return this.agents.busy;
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
    const { workerId, leaseTtlMs, handlers, concurrency } = this.options;
    this.proofs.tellReaped();
    const sentAt = performance.now();
    const { ordersHead } = await workers.register(
      workerId,
      {
        host: hostname(),
        pid: String(process.pid),
        bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
        pools: this.intake.pools.join(','),
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
    this.intake.open(() => this.life.state === 'running');
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
    const ended = this.intake.closeWaiting();
    const idle =
      (await within(
        this.agents.whenIdle().then(() => true),
        patienceMs,
      )) === true;
    const cutShort = [...this.cutShort].filter(mayBeClaimed).map(({ agentId }) => agentId);
    const stopped = [...new Set([...cutShort, ...(idle ? [] : this.agents.agentIds())])];
    if (!idle) {
      this.log.warn({ agents: stopped }, `still running after ${patienceMs} ms; stopping them`);
      stopAll(this.agents, 'graceful', 'server_shutdown', graceMs);
      await phases.run('stop agents', graceMs + STOP_MS, async () => this.agents.whenIdle());
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
    await phases.run('queues', RECORD_MS, async () => this.intake.closeQueues());
    return { forced, stopped };
  }

  /** A third signal: ends the grace of every agent; the exit code says so (docs/cli.md#belay-worker). */
  force(): void {
    // One whose claim is not answered yet may be granted still: the end of the drain knows.
    for (const slot of this.agents.slotsWhere(() => true)) this.cutShort.add(slot);
    const agents = [...this.cutShort].filter(isClaimed).map(({ agentId }) => agentId);
    this.log.warn({ agents }, 'forced by a third signal; killing the remaining agents');
    stopAll(this.agents, 'immediate', 'server_shutdown', 0);
  }
}

const isClaimed = ({ claimedAt }: AgentSlot): boolean => claimedAt !== undefined;

const mayBeClaimed = (slot: AgentSlot): boolean => isClaimed(slot) || slot.answeredTooLate;
