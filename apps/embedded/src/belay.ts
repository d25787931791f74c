import { ulid } from 'ulid';
import { Approvals } from '#libs/approvals';
import {
  BelayError,
  isBelayError,
  type ExecutionRecord,
  type Settings,
  type WorkerState,
} from '#libs/contracts';
import { ExecutionManager } from '#libs/executions';
import { KillswitchService } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import {
  allOrNothing,
  calmly,
  onStopSignals,
  SILENT,
  type CleanupStack,
  type ServiceLog,
  ServiceRun,
} from '#libs/service';
import { ChangeFeed } from '#libs/valkey';
import { createOrchestrator, type Orchestrator } from '../../orchestrator/src/create-orchestrator';
import { createWorker, type Worker } from '../../worker/src/create-worker';
import type { BelayNotice, BelayOptions, InMemoryBelayOptions } from './embedded-options';
import { startPrivateServer, type PrivateServer } from './private-server';
import { quietly } from './quiet-nest';
import { readOptions } from './read-options';
import { waitForEnd } from './wait-for';

/** How a stop went. */
export interface StopResult {
  /** Agents had to be stopped. */
  readonly forced: boolean;
  /** The ids of those agents; the fleet retries their nodes where the spec allows. */
  readonly stopped: readonly string[];
  /** Steps of the shutdown that failed or took too long and were left behind, such as `worker: announce`. */
  readonly unfinished: readonly string[];
}

/**
 * A Belay in the process of its host (docs/embedding.md). It ends agents and nothing else: it never exits the host, sets no
 * exit code, writes to none of its streams, and listens for a signal only on request. While it runs it keeps the event loop
 * alive.
 */
export interface Belay {
  readonly state: WorkerState;
  /** The id of the worker in this process; undefined without one. */
  readonly workerId: string | undefined;
  /** The address of the HTTP interface; undefined without one. */
  readonly url: string | undefined;
  /** Accepts specs. @throws BelayError DRAINING unless running */
  readonly executions: ExecutionManager;
  /** The records and their changes. @throws BelayError DRAINING before the start and after the stop */
  readonly lifecycle: LifecycleService;
  /** Orders, latches, receipts. @throws BelayError DRAINING before the start and after the stop */
  readonly killswitch: KillswitchService;
  /** Questions of agents, and their answers. @throws BelayError DRAINING before the start and after the stop */
  readonly approvals: Approvals;
  /** Every change as a stream, and waits for one. @throws BelayError DRAINING before the start and after the stop */
  readonly changes: ChangeFeed;
  /**
   * Starts. Two starts are one. A start that fails has released everything, and may be repeated.
   * @throws BelayError SERVER_UNREACHABLE · INVALID_SETTINGS · SHARD_MISMATCH · SPAWN_FAILED (no guardian) · DRAINING after a
   *   stop
   */
  start(): Promise<void>;
  /**
   * Drains: takes no more work, lets agents finish for `drainMs` (default: `stopTimeoutMs`), stops the rest with proof, closes
   * everything. Every caller shares one stop; each step is bounded. A stop during a start waits for the start.
   */
  stop(options?: { readonly drainMs?: number }): Promise<StopResult>;
  /** The execution's record once it has ended. @throws BelayError TIMEOUT · NotFoundError */
  waitForEnd(executionId: string, options: { readonly timeoutMs: number }): Promise<ExecutionRecord>;
}

/** A Belay on an existing server. @throws BelayError INVALID_SETTINGS with every problem of the options */
export function buildBelay(options: BelayOptions): Belay {
  return new EmbeddedBelay(options, readOptions(options));
}

/**
 * A Belay with a private Valkey that stores nothing for later: for tests, tools and single programs.
 * @throws BelayError INVALID_SETTINGS with every problem of the options; where there is no server program on this machine,
 *   `start` rejects with SERVER_UNREACHABLE and says what to install
 */
export function buildInMemoryBelay(options: InMemoryBelayOptions = {}): Belay {
  // The start brings its own `url` and `dataDir`; any other fault is reported now.
  const { url: _url, dataDir: _dataDir, ...rest } = options as Partial<BelayOptions>;
  const whole = { ...rest, url: 'unix:///private' };
  return new EmbeddedBelay(whole, readOptions(whole), startPrivateServer);
}

/** Node's error names the refusal of the system; Belay's names the option to change. */
function asOurs(error: unknown): unknown {
  const { syscall, port = 0, message } = error as NodeJS.ErrnoException & { readonly port?: number };
  if (syscall === undefined || isBelayError(error)) return error;
  const [path, advice] =
    syscall === 'listen' && port > 0
      ? ['http.port', 'Give another, or 0 for any free one.']
      : ['dataDir', 'Give a directory that this user may write.'];
  const problem = { path, code: 'BAD_VALUE', message: `cannot be used: ${message}. ${advice}` };
  return new BelayError('INVALID_SETTINGS', `Belay could not start. ${path} ${problem.message}`, {
    cause: error,
    problems: [problem],
  });
}

interface Parts {
  readonly server: PrivateServer | undefined;
  readonly orchestrator: Orchestrator;
  readonly worker: Worker | undefined;
  readonly ignoreSignals: () => void;
}

class EmbeddedBelay implements Belay {
  private readonly life = new ServiceRun<StopResult>({
    start: async () => {
      try {
        this.parts = await quietly(async () => allOrNothing(async (parts) => this.make(parts)));
      } catch (error) {
        throw asOurs(error);
      }
    },
    drain: async () => this.close(),
  });
  private readonly log: ServiceLog;
  private parts: Parts | undefined;
  private worker: Worker | undefined;
  private drainMs: number;
  private closing = false;

  constructor(
    private readonly options: BelayOptions,
    private readonly settings: Settings & { readonly valkeyUrl: string },
    private readonly startServer?: (onEnded: () => void) => Promise<PrivateServer>,
  ) {
    this.log = calmly(options.log ?? SILENT);
    this.drainMs = settings.stopTimeoutMs;
  }

  get state(): WorkerState {
    return this.life.state;
  }

  get workerId(): string | undefined {
    return this.worker?.workerId;
  }

  get url(): string | undefined {
    return this.parts?.orchestrator.url;
  }

  get executions(): ExecutionManager {
    if (this.state !== 'running') throw this.notThere();
    return this.services.get(ExecutionManager);
  }

  get lifecycle(): LifecycleService {
    return this.services.get(LifecycleService);
  }

  get killswitch(): KillswitchService {
    return this.services.get(KillswitchService);
  }

  get approvals(): Approvals {
    return this.services.get(Approvals);
  }

  get changes(): ChangeFeed {
    return this.services.get(ChangeFeed);
  }

  private get services(): Orchestrator {
    if (this.parts === undefined) throw this.notThere();
    return this.parts.orchestrator;
  }

  private notThere(): BelayError {
    return new BelayError(
      'DRAINING',
      `This Belay is ${this.state}; it can be used between start() and stop().`,
    );
  }

  start(): Promise<void> {
    return this.life.start();
  }

  stop({ drainMs }: { readonly drainMs?: number } = {}): Promise<StopResult> {
    if (!this.closing && drainMs !== undefined) this.drainMs = drainMs;
    return this.life.drain();
  }

  async waitForEnd(executionId: string, options: { readonly timeoutMs: number }): Promise<ExecutionRecord> {
    return waitForEnd(this.lifecycle, this.changes, executionId, options);
  }

  private async make(parts: CleanupStack): Promise<Parts> {
    const ignoreSignals = parts.add(this.listen(), (off) => off());
    const server =
      this.startServer === undefined
        ? undefined
        : parts.add(await this.startServer(() => this.tell({ kind: 'server-ended' })), async (made) =>
            made.stop(),
          );
    const settings =
      server === undefined
        ? this.settings
        : { ...this.settings, valkeyUrl: server.url, dataDir: server.dataDir };
    const orchestrator = parts.add(
      await createOrchestrator({
        settings,
        log: this.log,
        token: settings.token,
        leaveDrillSchedule: true,
      }),
      async (made) => made.stop(),
    );
    await orchestrator.start();
    if (this.options.worker === false) return { server, orchestrator, worker: undefined, ignoreSignals };
    const worker = parts.add(await this.makeWorker(settings), async (made) => {
      this.worker = undefined;
      await made.stop(0);
    });
    await worker.start();
    return { server, orchestrator, worker, ignoreSignals };
  }

  private async makeWorker(settings: Settings & { readonly valkeyUrl: string }): Promise<Worker> {
    const workerId = `wrk_${ulid()}`;
    const worker = await createWorker({
      workerId,
      settings,
      log: this.log,
      ownsProcess: false,
      http: false,
    });
    worker.fence.lost$.subscribe(() => this.giveUp(worker));
    worker.fence.fenced$.subscribe((agents) => this.tell({ kind: 'contact-lost', agents }));
    worker.fence.contact$.subscribe(() => this.tell({ kind: 'contact-back' }));
    return (this.worker = worker);
  }

  /** Gives up a worker: nobody waits for its agents any more, and it may never take others. */
  private giveUp(worker: Worker): void {
    if (worker.state === 'running') this.tell({ kind: 'lease-lost', workerId: worker.workerId });
    worker.stop(0).catch(this.failed);
  }

  private listen(): () => void {
    if (this.options.handleSignals !== true) return () => undefined;
    const drain = (signal: string): void => {
      this.log.info(`draining (${signal})`);
      this.stop().catch(this.failed);
    };
    return onStopSignals(drain, (signal, count) => {
      if (count === 2) this.log.debug(`${signal} again: already draining`);
      else this.worker?.force();
    });
  }

  /** A background rejection must not end the host. */
  private readonly failed = (error: unknown): void => this.log.error({ err: error }, 'shutdown failed');

  private tell(notice: BelayNotice): void {
    const failed = (error: unknown): void => this.log.error({ err: error }, 'onNotice failed');
    try {
      // The callback may be asynchronous all the same.
      Promise.resolve(this.options.onNotice?.(notice)).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  private async close(): Promise<StopResult> {
    this.closing = true;
    const { parts, drainMs } = this;
    if (parts === undefined) return { forced: false, stopped: [], unfinished: [] };
    const { server, orchestrator, worker, ignoreSignals } = parts;
    try {
      const drained = await worker?.stop(drainMs).catch(this.failed);
      await orchestrator.stop();
      const unfinished = [
        ...(worker?.phases.unfinished ?? []).map((phase) => `worker: ${phase}`),
        ...orchestrator.phases.unfinished.map((phase) => `orchestrator: ${phase}`),
      ];
      return { forced: drained?.forced ?? false, stopped: drained?.stopped ?? [], unfinished };
    } finally {
      await server?.stop();
      ignoreSignals();
      this.parts = undefined;
    }
  }
}
