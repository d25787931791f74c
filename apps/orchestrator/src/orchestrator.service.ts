import { setMaxListeners } from 'node:events';
import type { Approvals } from '#libs/approvals';
import { BelayError, type WorkerState } from '#libs/contracts';
import type { Janitor, SubmissionConsumer } from '#libs/executions';
import type { KillswitchService } from '#libs/killswitch';
import { Phases, ServiceRun } from '#libs/service';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Attendance } from './attendance';
import { SseStream } from './sse';

/** How long open streams may take to end. Milliseconds. */
const STREAMS_END_MS = 2_000;
/** How often it is looked at whether the token of an open stream is still valid. Milliseconds. */
const TOKEN_LOOK_MS = 5_000;
/** How long each other phase of a drain may take. Milliseconds. */
const PHASE_MS = 4_000;

export interface OrchestratorOptions {
  /** Between two sweeps of the open orders and of abandoned executions. Milliseconds. */
  readonly sweepMs: number;
  /** Silence after which a stream has a comment. Milliseconds. */
  readonly keepAliveMs: number;
  readonly onError: (error: unknown) => void;
}

/** The orchestrator's own state, as a worker's: idle → running → draining → stopped (requirement R41). */
export class OrchestratorService {
  private readonly life = new ServiceRun<void>({
    start: async () => this.startOnce(),
    drain: async () => this.drainOnce(),
  });
  /** The drain's current phase, and the work it had to leave behind. */
  readonly phases = new Phases((phase, trouble) => this.options.onError({ phase, ...trouble }));
  private sweeping: NodeJS.Timeout | undefined;
  /** Monotonic time of the start, then of the end of the last pass that ended well. */
  private passedAt = performance.now();
  private pass: Promise<void> | undefined;
  /** Ends open streams; aborted when the drain begins. */
  readonly closing = new AbortController();

  constructor(
    private readonly janitor: Janitor,
    private readonly killswitch: KillswitchService,
    private readonly approvals: Approvals,
    private readonly producers: SubmissionConsumer,
    readonly attendance: Attendance,
    private readonly options: OrchestratorOptions,
  ) {
    // One for each open stream; they go with it.
    setMaxListeners(0, this.closing.signal);
  }

  /** Whether the token that a request showed is still valid; of one that cannot be revoked, `true` at once. */
  isTokenValid: (request: FastifyRequest) => Promise<boolean> | true = () => true;
  private isAdmitting = true;
  private readonly releases: (() => void)[] = [];
  private readonly streams = new Set<Promise<void>>();

  get state(): WorkerState {
    return this.life.state;
  }

  /** Since the last pass of the sweep ended well. Milliseconds. */
  get sincePassMs(): number {
    return performance.now() - this.passedAt;
  }

  start(): Promise<void> {
    return this.life.start();
  }

  /** Every caller shares one drain. */
  drain(): Promise<void> {
    return this.life.drain();
  }

  /** Makes an event stream of the response; a drain lets it end before connections are closed. */
  openStream(reply: FastifyReply): SseStream {
    const stream = new SseStream(reply, this.options.keepAliveMs);
    const { closed } = stream;
    this.streams.add(closed);
    const looking =
      this.isTokenValid(reply.request) === true ? undefined : this.watchToken(reply.request, stream);
    void closed.then(() => clearInterval(looking));
    void closed.then(() => this.streams.delete(closed));
    return stream;
  }

  /** A stream may last for days: it ends when its token is revoked or has expired. */
  private watchToken(request: FastifyRequest, stream: SseStream): NodeJS.Timeout {
    const look = async (): Promise<void> => {
      // A server that is away takes nobody's token from them.
      if (await Promise.resolve(this.isTokenValid(request)).catch(() => true)) return;
      stream.send('unauthorized', { reason: 'The token of this stream is not valid any more.' });
      stream.end();
    };
    return setInterval(() => void look(), TOKEN_LOOK_MS).unref();
  }

  /** Event streams with a client. */
  get openStreams(): number {
    return this.streams.size;
  }

  /** Called once, at the end of the drain. */
  atEnd(release: () => void): void {
    this.releases.push(release);
  }

  private async startOnce(): Promise<void> {
    this.killswitch.start();
    this.janitor.start();
    this.producers.start();
    this.passedAt = performance.now();
    this.scheduleSweep();
  }

  /** Called before the whole fleet is drained: new work would be accepted and not run. Stops and reads go on. */
  closeAdmission(): void {
    this.isAdmitting = false;
  }

  /** New work is refused while draining; stops and reads are not. @throws BelayError DRAINING */
  assertAdmitting(): void {
    if (this.life.state === 'running' && this.isAdmitting) return;
    throw new BelayError(
      'DRAINING',
      'This orchestrator is draining and takes no new work. Try again in a moment.',
    );
  }

  private async drainOnce(): Promise<void> {
    this.closing.abort();
    clearTimeout(this.sweeping);
    await this.phases.run('producers', PHASE_MS, async () => this.producers.stop());
    await this.phases.run('janitor', PHASE_MS, async () => this.janitor.stop());
    await this.phases.run('order sweep', PHASE_MS, async () => this.pass);
    this.killswitch.stopListening();
    await this.phases.run('streams', STREAMS_END_MS, async () => Promise.all(this.streams));
    for (const release of this.releases.splice(0)) release();
  }

  private scheduleSweep(): void {
    this.sweeping = setTimeout(() => {
      this.pass = Promise.all([this.killswitch.sweep(), this.approvals.sweep(), this.attendance.sweep()])
        .then(() => void (this.passedAt = performance.now()), this.options.onError)
        .finally(() => !this.closing.signal.aborted && this.scheduleSweep());
    }, this.options.sweepMs);
  }
}
