import 'reflect-metadata';
import { hostname } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Settings, WorkerState } from '#libs/contracts';
import { AttemptEnds, ExecutionManager } from '#libs/executions';
import { OrderStore } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import { DrillSchedule, OrchestratorService } from '#libs/orchestrator';
import {
  allOrNothing,
  type CleanupStack,
  type ServiceLog,
  within,
  ServiceRun,
  type Phases,
} from '#libs/service';
import type { Tracing } from '#libs/tracing';
import { ChangeFeed, Valkey } from '#libs/valkey';
import { NO_WEBHOOKS, readWebhooks, Webhooks } from '#libs/webhooks';
import { Registry } from 'prom-client';
import { makeHttp } from './http/make-http';
import { OrchestratorModule } from './orchestrator.module';

/** Requests under way have this long to be answered. A wait for a proof that lasts longer is cut off. Milliseconds. */
const REQUESTS_MS = 2_000;
/**
 * After that, a client that sends its next request over the same connection gets a refusal. If the connection were cut, the
 * client could not know whether the request was done. Milliseconds.
 */
const REFUSALS_MS = 200;
/** The drill schedule, HTTP and the modules have this long to close. Milliseconds. */
const MODULES_MS = 10_000;

/** Messages that are cut off have this long to go back to their queues. Milliseconds. */
const WEBHOOKS_MS = 4_000;
/** The last spans may take this long. Milliseconds. */
const TRACES_MS = 2_000;

export interface CreateOrchestratorOptions {
  readonly settings: Settings & { readonly valkeyUrl: string };
  readonly log: ServiceLog;
  /** Serves the HTTP interface at `httpHost` and `httpPort` to clients with this token; undefined: no HTTP. */
  readonly token: string | undefined;
  /** Leaves the schedule of drills to the orchestrators of the fleet. Default: `drillCron` sets it. */
  readonly leaveDrillSchedule?: boolean;
}

/** An orchestrator that was made and does not work yet. It changes nothing of its process. */
export interface Orchestrator {
  /** The address of the HTTP interface, once it listens; undefined without one. */
  readonly url: string | undefined;
  readonly state: WorkerState;
  readonly phases: Phases;
  /** An instance of a class that its modules export. */
  get<T>(type: Type<T>): T;
  /**
   * Begins the background passes, producers' jobs and HTTP. Two starts are one. A start that fails releases everything.
   * @throws BelayError DRAINING after a stop, or a start that failed
   */
  start(): Promise<void>;
  /** Refuses new work from here on; everything else goes on until `stop`. */
  closeAdmission(): void;
  /** Drains, then closes its resources. Every caller shares one stop; each phase is bounded, and it never rejects. */
  stop(): Promise<void>;
}

/** Makes an orchestrator and its connections. A start that fails releases everything made so far. */
export function createOrchestrator(options: CreateOrchestratorOptions): Promise<Orchestrator> {
  return allOrNothing(async (parts) => make(options, parts));
}

async function make(options: CreateOrchestratorOptions, parts: CleanupStack): Promise<Orchestrator> {
  const { settings, log } = options;
  const { webhooksFile } = settings;
  const webhooks = webhooksFile === undefined ? NO_WEBHOOKS : readWebhooks(webhooksFile);
  const valkey = parts.add(
    await new Valkey({
      url: settings.valkeyUrl,
      keyPrefix: settings.keyPrefix,
      shards: settings.shards,
      onTrouble: (message) => log.warn(message),
    }).open(),
    (made) => made.close(),
  );
  const modules = OrchestratorModule.forRoot({
    settings,
    valkey,
    leaveDrillSchedule: options.leaveDrillSchedule ?? false,
    webhooks,
    onError: (error) => log.error({ err: error }, 'background work failed'),
  });
  const http =
    options.token === undefined
      ? undefined
      : await makeHttp(modules, {
          token: options.token,
          requestTimeoutMs: settings.requestTimeoutMs,
          rate: settings.httpRate,
          log,
        });
  const app: INestApplicationContext =
    http?.app ??
    (await NestFactory.createApplicationContext(modules, { logger: false, abortOnError: false }));
  const orchestrator = app.get(OrchestratorService);
  const drills = app.get(DrillSchedule);
  const hooks = app.get(Webhooks);
  valkey.quarantine.onFound = ({ message, details }) =>
    log.error({ key: details['key'] }, `${message}. It is set aside`);
  const tracing = await startTracing(app, options, valkey);
  const { phases } = orchestrator;
  let url: string | undefined;

  const life = new ServiceRun<void>({
    start: async () => {
      await orchestrator.start();
      await drills.start();
      hooks.start();
      await http?.app.listen(settings.httpPort, settings.httpHost);
      url = await http?.app.getUrl();
    },
    drain: async () => {
      await orchestrator.drain();
      await phases.run('drill schedule', MODULES_MS, async () => drills.stop());
      await phases.run('webhooks', WEBHOOKS_MS, async () => hooks.stop());
      // HTTP closes last: until here it has answered requests and ended every stream.
      if (http !== undefined) {
        await within(http.gate.close(), REQUESTS_MS);
        if (await hasConnections(http.app)) await pause(REFUSALS_MS);
      }
      if (tracing !== undefined)
        await phases.run('traces', TRACES_MS + 500, async () => tracing.close(TRACES_MS));
      await phases.run('http and modules', MODULES_MS, async () => app.close());
      valkey.close();
    },
  });
  return {
    get url() {
      return url;
    },
    get state() {
      return orchestrator.state;
    },
    phases,
    get: (type) => app.get(type),
    start: async () => {
      try {
        await life.start();
      } catch (error) {
        await life.drain();
        throw error;
      }
    },
    closeAdmission: () => orchestrator.closeAdmission(),
    stop: async () => life.drain(),
  };
}

/** Without a collector the code that makes spans is not even loaded. */
async function startTracing(
  app: INestApplicationContext,
  { settings: { otlpEndpoint: endpoint }, log }: CreateOrchestratorOptions,
  valkey: Valkey,
): Promise<Tracing | undefined> {
  if (endpoint === undefined) return undefined;
  const library = await import('#libs/tracing');
  const tracing = new library.Tracing(valkey, {
    endpoint,
    service: 'belay-orchestrator',
    instance: `${hostname()}-${process.pid}`,
    onTrouble: (message) => log.warn(message),
  });
  tracing.watchSubmits(app.get(ExecutionManager));
  tracing.watchEnds(app.get(AttemptEnds), app.get(LifecycleService));
  tracing.watchOrders(app.get(ChangeFeed), app.get(OrderStore));
  library.measureTracing(app.get(Registry), tracing);
  return tracing;
}

function hasConnections(app: NestFastifyApplication): Promise<boolean> {
  return new Promise((resolve) => app.getHttpServer().getConnections((_error, count) => resolve(count > 0)));
}
