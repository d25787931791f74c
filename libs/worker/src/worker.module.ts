import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { retentionOf, type LocalKillRequest, type Settings } from '#libs/contracts';
import { DispatchModule, JobRelay } from '#libs/dispatch';
import { ExecutionsModule } from '#libs/executions';
import {
  AuditStore,
  BreakGlass,
  KillResponder,
  KillswitchModule,
  LatchStore,
  OrderStore,
} from '#libs/killswitch';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import type { ServiceLog } from '#libs/service';
import {
  AgentDoor,
  AgentSlots,
  PROCESS_HOST,
  SpawnerModule,
  StartGate,
  TraceCarrier,
  WorkerLease,
  type AgentSlot,
  type ProcessHost,
  type SpawnerOptions,
} from '#libs/spawner';
import { Valkey, ValkeyModule } from '#libs/valkey';
import { AgentServer } from './agent-server';
import { BreakGlassLedger } from './break-glass-ledger';
import { JobReports } from './job-reports';
import { LeaseKeeper } from './lease-keeper';
import { OrphanReconciler } from './orphan-reconciler';
import { ownSideTasks } from './own-side-tasks';
import { PoolConsumers } from './pool-consumers';
import { ProofCollector } from './proof-collector';
import { SelfFence } from './self-fence';
import { SideTasks } from './side-tasks';
import { WORKER_LOG, WORKER_OPTIONS, type WorkerOptions } from './worker-options';
import { WorkerService } from './worker.service';

/** The proof of a kill by break-glass may take this long. Milliseconds. */
const BREAK_GLASS_PROOF_MS = 10_000;
/** The interval of a janitor that the worker never starts. Milliseconds. */
const JANITOR_MS = 1_000;

export interface WorkerModuleOptions {
  readonly settings: Settings;
  /** Open already; whoever opened it closes it. */
  readonly valkey: Valkey;
  /** Ended by the worker's drain. */
  readonly host: ProcessHost;
  readonly runner: SpawnerOptions['runner'];
  readonly worker: WorkerOptions;
  readonly log: ServiceLog;
  /** Default: no agent gets a trace context. */
  readonly trace?: TraceCarrier | undefined;
}

/** The ports of the runner, made among its own providers: each needs the runner's slots, and the runner needs it. */
const PORTS: readonly Provider[] = [
  {
    provide: LeaseKeeper,
    inject: [WORKER_OPTIONS, LifecycleService, AgentSlots, PROCESS_HOST],
    useFactory: (
      { workerId, leaseTtlMs, heartbeatMs, fenceAfterMs }: WorkerOptions,
      { workers, valkey }: LifecycleService,
      agents: AgentSlots,
      host: ProcessHost,
    ) => {
      const apart = valkey.scriptsApart();
      return new LeaseKeeper({
        heartbeatMs,
        fenceAfterMs,
        renew: async () => workers.heartbeat(workerId, leaseTtlMs, agents.busy, apart),
        armFence: (sentAt) => host.armFence(fenceAfterMs, sentAt),
      });
    },
  },
  {
    provide: KillResponder,
    inject: [WORKER_OPTIONS, WORKER_LOG, Valkey, OrderStore, AgentSlots, PROCESS_HOST],
    useFactory: (
      { workerId }: WorkerOptions,
      log: ServiceLog,
      valkey: Valkey,
      orders: OrderStore,
      agents: AgentSlots,
      host: ProcessHost,
    ) =>
      new KillResponder(valkey, orders, agents, {
        workerId,
        onError: (error) => log.error({ err: error }, 'orders'),
        // A guardian process that exists may still not act, so it is asked.
        describe: async () => ({
          containment: host.containment,
          isolation: host.isolation,
          guardian: await host.guardianAnswers(),
          running: agents.busy,
        }),
      }),
  },
  {
    provide: AgentServer,
    inject: [WORKER_LOG, LifecycleService, AgentSlots],
    useFactory: (log: ServiceLog, lifecycle: LifecycleService, agents: AgentSlots) => {
      const server = new AgentServer(lifecycle, {
        onError: (error) => log.warn({ err: error }, 'questions'),
        hold: async (agentId, name, isFrozen) => {
          const isMeant = (slot: AgentSlot): boolean => slot.agentId === agentId;
          const held = isFrozen ? agents.freezeWhere(isMeant, name) : agents.thawWhere(isMeant, name);
          for (const { error } of await Promise.all(held)) if (error !== undefined) throw error;
        },
      });
      // The end is stored or refused, so the attempt can store nothing any more.
      agents.ended$.subscribe(({ slot, outcome }) => outcome && server.forget(slot.agentId));
      return server;
    },
  },
  { provide: WorkerLease, useExisting: LeaseKeeper },
  { provide: StartGate, useExisting: KillResponder },
  { provide: AgentDoor, useExisting: AgentServer },
];

const PARTS: readonly Provider[] = [
  BreakGlassLedger,
  PoolConsumers,
  OrphanReconciler,
  ProofCollector,
  SelfFence,
  JobReports,
  {
    provide: SideTasks,
    inject: [
      WORKER_LOG,
      LeaseKeeper,
      KillResponder,
      BreakGlassLedger,
      LatchStore,
      AuditStore,
      PoolConsumers,
      ProofCollector,
      OrphanReconciler,
    ],
    useFactory: (log: ServiceLog, ...parts: Parameters<typeof ownSideTasks>) =>
      new SideTasks(ownSideTasks(...parts), (error, task) =>
        log.warn({ err: error, task }, 'a task beside the heartbeat failed'),
      ),
  },
  {
    provide: BreakGlass,
    inject: [WORKER_OPTIONS, WORKER_LOG, AgentSlots, WorkerLease, BreakGlassLedger],
    useFactory: (
      { workerId, graceMs, proof }: WorkerOptions,
      log: ServiceLog,
      agents: AgentSlots,
      lease: WorkerLease,
      ledger: BreakGlassLedger,
    ) =>
      new BreakGlass(agents, lease, {
        workerId,
        proofMs: BREAK_GLASS_PROOF_MS,
        defaultGraceMs: graceMs,
        proof,
        hold: (id: string, request: LocalKillRequest) => {
          log.error(
            { by: request.by, note: request.note },
            'break-glass: taking no work until its latch is engaged',
          );
          ledger.hold(id, request);
        },
        done: (receipt, request) => ledger.done(receipt, request),
      }),
  },
  WorkerService,
];

/**
 * Everything of a worker node except its process: no signal, no exit, no HTTP. It takes no work by itself: `WorkerService.start`
 * does, once `AgentServer` listens.
 */
@Module({})
export class WorkerModule {
  static forRoot({ settings, valkey, host, runner, worker, log, trace }: WorkerModuleOptions): DynamicModule {
    const retention = retentionOf(settings);
    const { proof, proofLimitMs, graceMs, queuePrefix } = settings;
    const lifecycle = LifecycleModule.forRoot({
      imports: [ValkeyModule.of(valkey, { followsEvents: false })],
      ...retention,
      proof,
    });
    const dispatch = DispatchModule.forRoot({ imports: [lifecycle], prefix: queuePrefix });
    const executions = ExecutionsModule.forRoot({
      imports: [dispatch],
      intervalMs: JANITOR_MS,
      ...retention,
    });
    const killswitch = KillswitchModule.forRoot({
      imports: [executions],
      ...retention,
      proofLimitMs,
      proof,
      graceMs,
      onError: (error) => log.error({ err: error }, 'killswitch'),
    });
    const given: readonly Provider[] = [
      { provide: WORKER_OPTIONS, useValue: worker },
      { provide: WORKER_LOG, useValue: log },
    ];
    const spawner = SpawnerModule.forRoot({
      imports: [killswitch],
      providers: [
        ...given,
        ...PORTS,
        ...(trace === undefined ? [] : [{ provide: TraceCarrier, useValue: trace }]),
      ],
      host,
      runner,
    });
    return {
      module: WorkerModule,
      imports: [spawner],
      providers: [
        ...PARTS,
        {
          provide: JobRelay,
          inject: [LifecycleService],
          useFactory: (service: LifecycleService) => new JobRelay(service, { prefix: queuePrefix }),
        },
      ],
      exports: [spawner, WorkerService],
    };
  }
}
