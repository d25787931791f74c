import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { ulid } from 'ulid';
import type { AgentRecord, ExecutionRecord, Settings, WorkerState } from '#libs/contracts';
import type { ExecutionManager, Janitor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import type { OrchestratorService } from '#libs/orchestrator';
import type { ServiceLog } from '#libs/service';
import type { ChangeFeed } from '#libs/valkey';
import { createWorker, type Worker } from '../../worker/src/create-worker';
import type { BelayNotice } from './embedded-options';
import type { Handlers } from './handlers/handler-programs';
import { isHandlerProcess } from './handlers/handler-process';
import { Processors } from './processors/processors';
import { quietly } from './quiet-nest';
import { waitForAgent, waitForEnd, type WaitOptions } from './wait-for';

/** `createApplicationContext` bootstraps before its caller can enable the shutdown hooks. Milliseconds. */
const HOOKS_WITHIN_MS = 1_000;

/** The services of the application that the background work uses. */
export interface RuntimeParts {
  readonly janitor: Janitor;
  readonly orchestrator: OrchestratorService;
  readonly lifecycle: LifecycleService;
  readonly executions: ExecutionManager;
  readonly changes: ChangeFeed;
}

export interface RuntimeOptions {
  readonly settings: Settings & { readonly valkeyUrl: string };
  readonly log: ServiceLog;
  readonly hasWorker: boolean;
  /** The handlers that the whole application declares. @throws BelayError INVALID_SETTINGS */
  readonly handlers: () => Handlers | undefined;
  readonly onNotice: ((notice: BelayNotice) => void) | undefined;
}

/** The worker and the background work of a Nest application, started and drained by Nest's hooks. */
export class BelayRuntime implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly orchestrator: OrchestratorService;
  /** Undefined before the start, and in an application without a worker. */
  worker: Worker | undefined;
  private readonly processors: Processors;
  private hooksCheck: NodeJS.Timeout | undefined;

  constructor(
    private readonly parts: RuntimeParts,
    private readonly options: RuntimeOptions,
  ) {
    const { orchestrator, lifecycle, executions, changes } = parts;
    const { log, settings } = options;
    this.orchestrator = orchestrator;
    lifecycle.valkey.quarantine.onFound = ({ message, details }) =>
      log.error({ key: details['key'] }, `${message}. It is set aside`);
    this.processors = new Processors(lifecycle, executions, changes, settings.queuePrefix);
  }

  /** The state of the worker; without one, of the background work. */
  get state(): WorkerState {
    return this.worker?.state ?? this.orchestrator.state;
  }

  /** The id of the worker in this process; undefined without one. */
  get workerId(): string | undefined {
    return this.worker?.workerId;
  }

  get hasWorker(): boolean {
    return this.options.hasWorker;
  }

  /** The passes of an orchestrator: their state, and the time since the older of the last two ended well. Milliseconds. */
  get background(): { readonly state: WorkerState; readonly sincePassMs: number } {
    const { state } = this.orchestrator;
    return { state, sincePassMs: Math.max(this.orchestrator.sincePassMs, this.parts.janitor.sincePassMs) };
  }

  /** The record of an execution once it has ended. @throws BelayError TIMEOUT · NotFoundError */
  waitForEnd(executionId: string, options: WaitOptions): Promise<ExecutionRecord> {
    return waitForEnd(this.parts.lifecycle, this.parts.changes, executionId, options);
  }

  /** An agent of an execution, once one runs. @throws BelayError TIMEOUT · NOT_FOUND, also once it has ended */
  waitForAgent(executionId: string, options: WaitOptions): Promise<AgentRecord> {
    return waitForAgent(this.parts.lifecycle, this.parts.changes, executionId, options);
  }

  /** @throws BelayError SPAWN_FAILED (no guardian) · INVALID_SETTINGS */
  async onApplicationBootstrap(): Promise<void> {
    // One agent of an application whose worker runs elsewhere.
    if (isHandlerProcess()) return;
    const handlers = this.options.handlers();
    await this.orchestrator.start();
    if (this.options.hasWorker) await this.startWorker(handlers);
    // Only now can the caller have the application. However long the start took, the caller gets time to enable the hooks.
    this.hooksCheck = setTimeout(() => this.warnWithoutHooks(), HOOKS_WITHIN_MS).unref();
  }

  private async startWorker(handlers: Handlers | undefined): Promise<void> {
    try {
      this.worker = await this.makeWorker(handlers);
      await this.worker.start();
      this.processors.start(handlers?.processors ?? []);
    } catch (error) {
      await this.orchestrator.drain();
      throw error;
    }
  }

  /** Takes no more work, lets agents finish for `stopTimeoutMs`, stops the rest with proof. Each step is bounded. */
  async beforeApplicationShutdown(): Promise<void> {
    clearTimeout(this.hooksCheck);
    // First: another instance continues its jobs while the agents here are drained.
    await this.processors.stop();
    await this.worker?.stop();
    await this.orchestrator.drain();
  }

  /** Warns because Nest closes an application on a signal only when shutdown hooks are enabled. */
  private warnWithoutHooks(): void {
    if (process.listenerCount('SIGTERM') > 0) return;
    this.options.log.warn(
      'This process does not handle SIGTERM: it would end without draining, and its agents with it. ' +
        'Call app.enableShutdownHooks() as soon as the application is made.',
    );
  }

  private async makeWorker(handlers: Handlers | undefined): Promise<Worker> {
    const { settings, log } = this.options;
    const workerId = `wrk_${ulid()}`;
    const worker = await quietly(async () =>
      createWorker({
        workerId,
        settings,
        log,
        ownsProcess: false,
        http: false,
        ...(handlers === undefined ? {} : { handlers }),
      }),
    );
    worker.fence.lost$.subscribe(() => {
      this.tell({ kind: 'lease-lost', workerId });
      worker.stop(0).catch((error: unknown) => log.error({ err: error }, 'shutdown failed'));
    });
    worker.fence.fenced$.subscribe((agents) => this.tell({ kind: 'contact-lost', agents }));
    worker.fence.contact$.subscribe(() => this.tell({ kind: 'contact-back' }));
    return worker;
  }

  private tell(notice: BelayNotice): void {
    const failed = (error: unknown): void => this.options.log.error({ err: error }, 'onNotice failed');
    try {
      // The callback may be asynchronous all the same.
      Promise.resolve(this.options.onNotice?.(notice)).catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}
