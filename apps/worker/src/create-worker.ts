import 'reflect-metadata';
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { breakGlassPath } from '#libs/client';
import { jobPoolOf, retentionOf, type Settings, type WorkerState } from '#libs/contracts';
import { AttemptEnds } from '#libs/executions';
import { BreakGlass, KillResponder, KillswitchService } from '#libs/killswitch';
import { LifecycleService, WorkerStore } from '#libs/lifecycle';
import { measureProcess } from '#libs/metrics';
import { allOrNothing, type CleanupStack, type ServiceLog, type Phases } from '#libs/service';
import {
  AgentRunner,
  AgentSlots,
  createProcessHost,
  PROCESS_HOST,
  reportOfProof,
  type Escapee,
  type HandlerProgram,
  type ProcessHost,
  type SpawnerOptions,
  type WaitingProgram,
} from '#libs/spawner';
import type { Tracing } from '#libs/tracing';
import { Valkey } from '#libs/valkey';
import {
  AgentServer,
  JobReports,
  LeaseKeeper,
  PoolConsumers,
  SelfFence,
  SideTasks,
  WorkerModule,
  WorkerService,
  type DrainResult,
  type WorkerOptions,
} from '#libs/worker';
import { startBreakGlassServer } from './break-glass-server';
import { startHealthServer } from './health-server';
import { workerMetrics } from './worker-metrics';

/** The modules may take this long to close. Milliseconds. */
const MODULES_MS = 10_000;
/** The last spans may take this long. Milliseconds. */
const TRACES_MS = 2_000;
/** The last progress of jobs may take this long. Milliseconds. */
const RELAY_MS = 2_000;

export interface CreateWorkerOptions {
  /** The worker's id in every record: `wrk_` and a ULID. Never used before. */
  readonly workerId: string;
  readonly settings: Settings & { readonly valkeyUrl: string };
  readonly log: ServiceLog;
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
  /** Contact lost and back, and a lost lease: then the program must end this worker. */
  readonly fence: Pick<SelfFence, 'fenced$' | 'contact$' | 'lost$'>;
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
  const { workerId, settings, log } = options;
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
  valkey.quarantine.onFound = ({ message, details }) =>
    log.error({ key: details['key'] }, `${message}. It is set aside`);
  const host = parts.add(await makeHost(options, dataDir, valkey), async (made) => made.close());
  const tracing = await startTracing(options, valkey);
  const app: INestApplicationContext = parts.add(
    await NestFactory.createApplicationContext(
      WorkerModule.forRoot({
        settings,
        valkey,
        host,
        log,
        trace: tracing,
        runner: runnerOptions(options, logDir, closing.signal),
        worker: workerOptions(options, dataDir),
      }),
      { logger: false, abortOnError: false },
    ),
    async (made) => made.close(),
  );
  const agentServer = parts.add(app.get(AgentServer), (made) => made.close());
  await agentServer.listen();
  tracing?.watchEnds(app.get(AttemptEnds), app.get(LifecycleService));
  const killswitch = app.get(KillswitchService);
  killswitch.start();
  const service = app.get(WorkerService);
  const health = options.http
    ? parts.add(await serveHealth(app, options, closing.signal, tracing), ({ server }) => server.close())
    : undefined;
  const local = await startBreakGlassServer(breakGlassPath(dataDir, workerId), app.get(BreakGlass));

  const { phases } = service;
  let stopping: Promise<DrainResult> | undefined;
  const stopOnce = async (patienceMs?: number): Promise<DrainResult> => {
    const result = await service.drain(patienceMs);
    closing.abort();
    killswitch.stopListening();
    await phases.run('job reports', RELAY_MS, async () => app.get(JobReports).close());
    if (tracing !== undefined)
      await phases.run('traces', TRACES_MS + 500, async () => tracing.close(TRACES_MS));
    await phases.run('modules', MODULES_MS, async () => app.close());
    valkey.close();
    local.close();
    agentServer.close();
    health?.server.close();
    health?.server.closeAllConnections();
    return result;
  };
  const stop = (patienceMs?: number): Promise<DrainResult> => (stopping ??= stopOnce(patienceMs));
  const { waiting } = app.get(AgentRunner);
  return {
    workerId,
    containment: host.containment,
    isolation: host.isolation,
    port: health?.port,
    get state() {
      return service.state;
    },
    get waiting() {
      return waiting.ready;
    },
    lease: app.get(LeaseKeeper),
    fence: app.get(SelfFence),
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

/** Without a collector the code that makes spans is not even loaded. */
async function startTracing(
  { workerId, settings, log }: CreateWorkerOptions,
  valkey: Valkey,
): Promise<Tracing | undefined> {
  const { otlpEndpoint: endpoint } = settings;
  if (endpoint === undefined) return undefined;
  const library = await import('#libs/tracing');
  return new library.Tracing(valkey, {
    endpoint,
    service: 'belay-worker',
    instance: workerId,
    onTrouble: (message) => log.warn(message),
  });
}

/** The process host with its guardian. It ends dead workers' processes before it starts any of its own. */
async function makeHost(
  { workerId, settings, log, ownsProcess }: CreateWorkerOptions,
  dataDir: string,
  valkey: Valkey,
): Promise<ProcessHost> {
  const workers = new WorkerStore(valkey, retentionOf(settings).retentionMs);
  const reaper = { workerId, host: hostname() };
  const tellEscapee = async (escapee: Escapee): Promise<void> => {
    log.warn({ ...escapee }, 'an agent left a process that hides its marks');
    await workers
      .tellEscapee(workerId, escapee)
      .catch((error: unknown) => log.warn({ err: error }, 'the escaped process could not be reported'));
  };
  return createProcessHost({
    workerId,
    dataDir,
    containment: settings.containment,
    isolation: settings.isolation,
    ...(settings.agentUids === undefined ? {} : { agentUids: settings.agentUids }),
    native: settings.native,
    ownsProcess,
    checkSeal: async (seal) => workers.checkSeal(seal),
    // That is proof for the receipts of the dead workers.
    onReaped: async (reaped) =>
      workers.saveProof(reaped.workerId, reportOfProof({ ...reaped, by: 'reaper', reaper })),
    onEscapee: (escapee) => void tellEscapee(escapee),
    ...(settings.cgroupParent === undefined ? {} : { cgroupParent: settings.cgroupParent }),
  });
}

function runnerOptions(
  { workerId, settings, log, handlers }: CreateWorkerOptions,
  logDir: string,
  closing: AbortSignal,
): SpawnerOptions['runner'] {
  return {
    workerId,
    workDir: resolve(settings.workDir),
    logDir,
    maxLogBytes: settings.maxLogMb * 1024 * 1024,
    graceMs: settings.graceMs,
    closing,
    handlerProgram: (name) => handlers?.programOf(name),
    ahead: handlers?.ahead,
    onError: (error, agentId) => log.warn({ err: error, agentId }, 'agent'),
  };
}

function workerOptions(
  { workerId, settings, handlers }: CreateWorkerOptions,
  dataDir: string,
): WorkerOptions {
  return {
    workerId,
    pools: settings.pools,
    handlers: handlers?.names ?? [],
    ownPools: new Map(handlers?.processors.map(({ queue, concurrency }) => [jobPoolOf(queue), concurrency])),
    concurrency: settings.workerConcurrency,
    leaseTtlMs: settings.leaseTtlMs,
    heartbeatMs: settings.heartbeatMs,
    fenceAfterMs: settings.fenceAfterMs,
    stopTimeoutMs: settings.stopTimeoutMs,
    graceMs: settings.graceMs,
    fenceGraceMs: settings.fenceGraceMs,
    proof: settings.proof,
    dataDir,
  };
}

async function serveHealth(
  app: INestApplicationContext,
  { workerId, settings }: CreateWorkerOptions,
  closing: AbortSignal,
  tracing: Tracing | undefined,
): Promise<Awaited<ReturnType<typeof startHealthServer>>> {
  const service = app.get(WorkerService);
  const intake = app.get(PoolConsumers);
  const metrics = workerMetrics({
    responder: app.get(KillResponder),
    runner: app.get(AgentRunner),
    agents: app.get(AgentSlots),
    host: app.get<ProcessHost>(PROCESS_HOST),
    beside: app.get(SideTasks),
    renewed$: app.get(LeaseKeeper).renewed$,
    closedPools: () => intake.closed.length,
  });
  if (tracing !== undefined) (await import('#libs/tracing')).measureTracing(metrics, tracing);
  closing.addEventListener('abort', measureProcess(metrics, app.get(LifecycleService)), { once: true });
  return startHealthServer(
    settings.httpHost,
    settings.workerHttpPort,
    () => ({ state: service.state, workerId, running: service.running }),
    async () => metrics.metrics(),
  );
}
