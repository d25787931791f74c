import { setMaxListeners } from 'node:events';
import type { Approvals } from '#libs/approvals';
import { BelayError, type WorkerState } from '#libs/contracts';
import type { Janitor, SubmissionConsumer } from '#libs/executions';
import type { KillswitchService } from '#libs/killswitch';
import { Phases, ServiceRun } from '#libs/service';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Attendance } from './attendance';
import type { Deletions } from './deletions';
import { SseStream } from './sse';

/** Open streams have this long to end. Milliseconds. */
const STREAMS_END_MS = 2_000;
/** The interval of checks whether the token of an open stream is still valid. Milliseconds. */
const TOKEN_LOOK_MS = 5_000;
/** Each other phase of a drain may take this long. Milliseconds. */
const PHASE_MS = 4_000;

export interface OrchestratorOptions {
  /** The time between two sweeps of the open orders and of abandoned executions. Milliseconds. */
  readonly sweepMs: number;
  /** After this silence a stream gets a comment. Milliseconds. */
  readonly keepAliveMs: number;
  readonly onError: (error: unknown) => void;
}

/** The orchestrator's own state, like a worker's (docs/state-machines.md#worker): idle → running → draining → stopped. */
export class OrchestratorService {
  private readonly life = new ServiceRun<void>({
    start: async () => this.startOnce(),
    drain: async () => this.drainOnce(),
  });
  /** The phases of the drain: the present one, and those that were left behind. */
  readonly phases = new Phases((phase, trouble) => this.options.onError({ phase, ...trouble }));
  private sweeping: NodeJS.Timeout | undefined;
  /** The monotonic time of the start, then of the end of the last successful pass. */
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
    readonly deletions: Deletions,
    private readonly options: OrchestratorOptions,
  ) {
    // One listener for each open stream; it is removed with the stream.
    setMaxListeners(0, this.closing.signal);
  }

  /** Whether a request's token is still valid; `true` at once for a token that cannot be revoked. */
  isTokenValid: (request: FastifyRequest) => Promise<boolean> | true = () => true;
  private isAdmitting = true;
  private readonly releases: (() => void)[] = [];
  private readonly streams = new Set<Promise<void>>();

  get state(): WorkerState {
    return this.life.state;
  }

  /** The time since the last successful pass of the sweep. Milliseconds. */
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

  /** Turns the response into an event stream. A drain lets the stream end before connections are closed. */
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

  /** Ends a stream when its token is revoked or has expired, since a stream may last for days. */
  private watchToken(request: FastifyRequest, stream: SseStream): NodeJS.Timeout {
    const look = async (): Promise<void> => {
      // While the state server is away, no token counts as revoked.
      if (await Promise.resolve(this.isTokenValid(request)).catch(() => true)) return;
      stream.send('unauthorized', { reason: 'The token of this stream is not valid any more.' });
      stream.end();
    };
    return setInterval(() => void look(), TOKEN_LOOK_MS).unref();
  }

  /** The number of event streams with a client. */
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

  /** Called before a drain of the whole fleet, because new work would be accepted and not run. Stops and reads go on. */
  closeAdmission(): void {
    this.isAdmitting = false;
  }

  /** New work is refused during a drain; stops and reads are not. @throws BelayError DRAINING */
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
      this.pass = this.sweep().finally(() => !this.closing.signal.aborted && this.scheduleSweep());
    }, this.options.sweepMs);
  }

  /** Ends when every part has ended, so that no part runs beside its own next run, or after the drain. */
  private async sweep(): Promise<void> {
    const parts = [
      this.killswitch.sweep(),
      this.approvals.sweep(),
      this.attendance.sweep(),
      this.deletions.sweep(),
    ];
    const failed = (await Promise.allSettled(parts)).filter((one) => one.status === 'rejected');
    for (const { reason } of failed) this.options.onError(reason);
    if (failed.length === 0) this.passedAt = performance.now();
  }
}
