import 'reflect-metadata';
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { breakGlassPath } from '#libs/client';
import {
  isHandlerRun,
  JOB_LABEL,
  JOB_LOG_EVENT,
  jobPoolOf,
  QUEUE_LABEL,
  retentionOf,
  type AgentMessage,
  type Settings,
  type WorkerState,
} from '#libs/contracts';
import { AgentQueues, DispatchModule, JobRelay } from '#libs/dispatch';
import { AttemptEnds, ExecutionsModule } from '#libs/executions';
import {
  AuditStore,
  BreakGlass,
  KillResponder,
  KillswitchModule,
  KillswitchService,
  LatchStore,
  OrderStore,
} from '#libs/killswitch';
import { LifecycleModule, LifecycleService, WorkerStore } from '#libs/lifecycle';
import { measureProcess } from '#libs/metrics';
import { allOrNothing, type CleanupStack, type ServiceLog, type Phases } from '#libs/service';
import {
  AgentRunner,
  createProcessHost,
  reportOfProof,
  SpawnerModule,
  type AgentSlot,
  type Escapee,
  type Granted,
  type HandlerProgram,
  type SpawnerOptions,
  type WaitingProgram,
} from '#libs/spawner';
import { Valkey, ValkeyModule } from '#libs/valkey';
import { OutcomeReplay, type LeaseKeeper } from '#libs/worker';
import { startBreakGlassServer } from './break-glass-server';
import { startHealthServer } from './health-server';
import { AgentServer } from './agent-server';
import { workerMetrics } from './worker-metrics';
import { WorkerService, type DrainResult, type WorkerHooks } from './worker.service';

/** The modules may take this long to close. Milliseconds. */
const MODULES_MS = 10_000;
/** The last progress of jobs may take this long. Milliseconds. */
const RELAY_MS = 2_000;
/** The proof of a kill by break-glass may take this long. Milliseconds. */
const BREAK_GLASS_PROOF_MS = 10_000;

export interface CreateWorkerOptions {
  /** The worker's id in every record: `wrk_` and a ULID. Never used before. */
  readonly workerId: string;
  readonly settings: Settings & { readonly valkeyUrl: string };
  readonly log: ServiceLog;
  readonly hooks: WorkerHooks;
  /** Whether no other code in this process starts processes. */
  readonly ownsProcess: boolean;
  /** Whether to serve health and metrics over HTTP, at `httpHost` and `workerHttpPort`. */
  readonly http: boolean;
  /** The handlers of the worker's application. Default: none. */
  readonly handlers?: WorkerHandlers;
}

/** Handlers by name, with the program of each. */
export interface WorkerHandlers {
  readonly names: readonly string[];
  readonly programOf: (name: string) => HandlerProgram | undefined;
  /** Processes that are started ahead of their attempts. Default: none. */
  readonly ahead?: WaitingProgram | undefined;
  /** The queues whose jobs the worker runs, each with slots of its own. */
  readonly processors: readonly { readonly queue: string; readonly concurrency: number }[];
}

/** A worker that was made and is not registered yet. It changes nothing of its process. */
export interface Worker {
  readonly workerId: string;
  readonly containment: string;
  readonly isolation: string;
  /** The port of its health page; undefined without one. */
  readonly port: number | undefined;
  readonly state: WorkerState;
  /** Processes of handlers that wait for an attempt. */
  readonly waiting: number;
  /** The worker's lease: whether it is valid, and until when by the worker's own clock. */
  readonly lease: Pick<LeaseKeeper, 'holds' | 'leftMs'>;
  readonly phases: Phases;
  /**
   * Takes its lease, then orders, then work. Two starts are one. A start that fails releases everything.
   * @throws BelayError DRAINING after a stop, or a start that failed
   */
  start(): Promise<void>;
  /**
   * Drains, then closes its resources. Agents may go on for `patienceMs` (default: `stopTimeoutMs`). Every caller shares one
   * stop; each phase is bounded, and it never rejects.
   */
  stop(patienceMs?: number): Promise<DrainResult>;
  /** Ends the grace of every agent, in a drain under way. */
  force(): void;
}

/**
 * Makes a worker: connections, process host and guardian, local servers. A start that fails releases everything made so
 * far.
 */
export function createWorker(options: CreateWorkerOptions): Promise<Worker> {
  return allOrNothing(async (parts) => make(options, parts));
}

async function make(options: CreateWorkerOptions, parts: CleanupStack): Promise<Worker> {
  const { workerId, settings, log, hooks } = options;
  const dataDir = resolve(settings.dataDir);
  const logDir = join(dataDir, 'agents');
  mkdirSync(logDir, { recursive: true, mode: 0o700 });
  const closing = new AbortController();
  const valkey = parts.add(
    await new Valkey({
      url: settings.valkeyUrl,
      keyPrefix: settings.keyPrefix,
      shards: settings.shards,
      onTrouble: (message) => log.warn(message),
    }).open(),
    (made) => made.close(),
  );
  const workers = new WorkerStore(valkey, retentionOf(settings).retentionMs);
  const reaper = { workerId, host: hostname() };
  const host = parts.add(
    await createProcessHost({
      workerId,
      dataDir,
      containment: settings.containment,
      isolation: settings.isolation,
      ...(settings.agentUids === undefined ? {} : { agentUids: settings.agentUids }),
      native: settings.native,
      ownsProcess: options.ownsProcess,
      checkSeal: async (seal) => workers.checkSeal(seal),
      // This worker ends dead workers' processes before it starts any of its own: that is proof for their receipts.
      onReaped: async (reaped) =>
        workers.saveProof(reaped.workerId, reportOfProof({ ...reaped, by: 'reaper', reaper })),
      onEscapee: (escapee) => void tellEscapee(escapee),
      ...(settings.cgroupParent === undefined ? {} : { cgroupParent: settings.cgroupParent }),
    }),
    async (made) => made.close(),
  );
  const ends = new OutcomeReplay(
    async (...end) => app.get(AttemptEnds).end(...end),
    async (...start) => app.get(LifecycleService).agents.started(...start),
  );
  const app: INestApplicationContext = parts.add(
    await makeModules(options, valkey, {
      host,
      runner: {
        workerId,
        workDir: resolve(settings.workDir),
        logDir,
        maxLogBytes: settings.maxLogMb * 1024 * 1024,
        graceMs: settings.graceMs,
        closing: closing.signal,
        finish: async (...end) => ends.store(...end),
        // Both are made below, before anything can be claimed.
        wasSilent: () => service.lease.wasSilent,
        leaseLeftMs: () => service.lease.leftMs,
        handlerProgram: (name) => options.handlers?.programOf(name),
        agentEnv: (fence) => agentServer.admit(fence),
        ahead: options.handlers?.ahead,
        onMessage: (message, claim) => tellJob(message, claim),
        beforeSpawn: (slot) => responder.beforeSpawn(slot),
        onError: (error, agentId) => log.warn({ err: error, agentId }, 'agent'),
      },
    }),
    async (made) => made.close(),
  );
  const agentServer = parts.add(
    await AgentServer.listen(app.get(LifecycleService), {
      onError: (error) => log.warn({ err: error }, 'questions'),
      hold: async (agentId, name, isFrozen) => {
        const isMeant = (slot: AgentSlot): boolean => slot.agentId === agentId;
        const held = isFrozen ? runner.freezeWhere(isMeant, name) : runner.thawWhere(isMeant, name);
        for (const { error } of await Promise.all(held)) if (error !== undefined) throw error;
      },
    }),
    (made) => made.close(),
  );
  const relay = new JobRelay(app.get(LifecycleService), { prefix: settings.queuePrefix });
  const tellJob = (message: AgentMessage, { labels, node }: Granted): void => {
    const { [QUEUE_LABEL]: queue, [JOB_LABEL]: jobId } = labels;
    if (queue === undefined || jobId === undefined || !isHandlerRun(node.run)) return;
    if (message.type === 'progress') relay.progress(queue, jobId, message.value);
    else if (message.type === 'event' && message.name === JOB_LOG_EVENT && typeof message.data === 'string')
      relay.log(queue, jobId, message.data);
  };
  const tellEscapee = async (escapee: Escapee): Promise<void> => {
    log.warn({ ...escapee }, 'an agent left a process that hides its marks');
    await app
      .get(LifecycleService)
      .workers.tellEscapee(workerId, escapee)
      .catch((error: unknown) => log.warn({ err: error }, 'the escaped process could not be reported'));
  };
  const runner = app.get(AgentRunner);
  // The end is stored or refused, so the attempt can store nothing any more.
  runner.ended$.subscribe(({ slot, outcome }) => outcome && agentServer.forget(slot.agentId));
  valkey.quarantine.onFound = ({ message, details }) =>
    log.error({ key: details['key'] }, `${message}. It is set aside`);
  const responder = new KillResponder(valkey, app.get(OrderStore), runner, {
    workerId,
    onError: (error) => log.error({ err: error }, 'orders'),
    // A guardian process that exists may still not act, so it is asked.
    describe: async () => ({
      containment: host.containment,
      isolation: host.isolation,
      guardian: await host.guardianAnswers(),
      running: runner.busy,
    }),
  });
  const killswitch = app.get(KillswitchService);
  killswitch.start();
  const service: WorkerService = new WorkerService(
    app.get(LifecycleService),
    app.get(AgentQueues),
    host,
    runner,
    responder,
    app.get(LatchStore),
    app.get(AuditStore),
    ends,
    app.get(AttemptEnds),
    {
      workerId,
      pools: settings.pools,
      handlers: options.handlers?.names ?? [],
      ownPools: new Map(
        options.handlers?.processors.map(({ queue, concurrency }) => [jobPoolOf(queue), concurrency]),
      ),
      concurrency: settings.workerConcurrency,
      leaseTtlMs: settings.leaseTtlMs,
      heartbeatMs: settings.heartbeatMs,
      fenceAfterMs: settings.fenceAfterMs,
      stopTimeoutMs: settings.stopTimeoutMs,
      graceMs: settings.graceMs,
      fenceGraceMs: settings.fenceGraceMs,
      dataDir,
    },
    log,
    hooks,
  );
  const health = options.http ? parts.add(await serveHealth(), ({ server }) => server.close()) : undefined;
  const breakGlass = new BreakGlass(runner, {
    workerId,
    proofMs: BREAK_GLASS_PROOF_MS,
    defaultGraceMs: settings.graceMs,
    proof: settings.proof,
    hold: (id, request) => {
      log.error(
        { by: request.by, note: request.note },
        'break-glass: taking no work until its latch is engaged',
      );
      service.ledger.hold(id, request);
    },
    done: (receipt, request) => service.ledger.done(receipt, request),
  });
  const local = await startBreakGlassServer(breakGlassPath(dataDir, workerId), breakGlass);

  function serveHealth(): ReturnType<typeof startHealthServer> {
    const { beside, renewed$ } = service;
    const closedPools = (): number => service.closedPools.length;
    const metrics = workerMetrics({ responder, runner, host, beside, renewed$, closedPools });
    closing.signal.addEventListener('abort', measureProcess(metrics, app.get(LifecycleService)), {
      once: true,
    });
    return startHealthServer(
      settings.httpHost,
      settings.workerHttpPort,
      () => ({ state: service.state, workerId, running: service.running }),
      async () => metrics.metrics(),
    );
  }

  const { phases } = service;
  let stopping: Promise<DrainResult> | undefined;
  const stopOnce = async (patienceMs?: number): Promise<DrainResult> => {
    const result = await service.drain(patienceMs);
    closing.abort();
    killswitch.stopListening();
    await phases.run('job reports', RELAY_MS, async () => relay.close());
    await phases.run('modules', MODULES_MS, async () => app.close());
    valkey.close();
    local.close();
    agentServer.close();
    health?.server.close();
    health?.server.closeAllConnections();
    return result;
  };
  const stop = (patienceMs?: number): Promise<DrainResult> => (stopping ??= stopOnce(patienceMs));
  return {
    workerId,
    containment: host.containment,
    isolation: host.isolation,
    port: health?.port,
    get state() {
      return service.state;
    },
    get waiting() {
      return runner.waiting.ready;
    },
    lease: service.lease,
    phases,
    start: async () => {
      try {
        await service.start(health?.port);
      } catch (error) {
        await stop(0);
        throw error;
      }
    },
    stop,
    force: () => service.force(),
  };
}

async function makeModules(
  { settings, log }: CreateWorkerOptions,
  valkey: Valkey,
  spawner: SpawnerOptions,
): Promise<INestApplicationContext> {
  const retention = retentionOf(settings);
  const isGlobal = true;
  @Module({
    imports: [
      ValkeyModule.of(valkey, { followsEvents: false }),
      LifecycleModule.forRoot({ ...retention, proof: settings.proof, isGlobal }),
      DispatchModule.forRoot({ prefix: settings.queuePrefix, isGlobal }),
      ExecutionsModule.forRoot({ intervalMs: 1_000, ...retention, isGlobal }),
      KillswitchModule.forRoot({
        ...retention,
        proofLimitMs: settings.proofLimitMs,
        proof: settings.proof,
        graceMs: settings.graceMs,
        isGlobal,
        onError: (error) => log.error({ err: error }, 'killswitch'),
      }),
      SpawnerModule.forRoot(spawner),
    ],
  })
  class WorkerModule {}
  return NestFactory.createApplicationContext(WorkerModule, { logger: false, abortOnError: false });
}
