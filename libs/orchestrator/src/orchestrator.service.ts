import { setMaxListeners } from 'node:events';
import { Inject, Injectable } from '@nestjs/common';
import { Approvals } from '#libs/approvals';
import { BelayError, type WorkerState } from '#libs/contracts';
import { Janitor, SubmissionConsumer } from '#libs/executions';
import { KillswitchService } from '#libs/killswitch';
import { Phases, ServiceRun } from '#libs/service';
import { Attendance } from './attendance';
import { Deletions } from './deletions';
import { ORCHESTRATOR_OPTIONS, type OrchestratorOptions } from './orchestrator-options';

/** Open streams have this long to end. Milliseconds. */
const STREAMS_END_MS = 2_000;
/** Each other phase of a drain may take this long. Milliseconds. */
const PHASE_MS = 4_000;

/** The orchestrator's own state, like a worker's (docs/state-machines.md#worker): idle → running → draining → stopped. */
@Injectable()
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
    @Inject(Janitor) private readonly janitor: Janitor,
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(Approvals) private readonly approvals: Approvals,
    @Inject(SubmissionConsumer) private readonly producers: SubmissionConsumer,
    @Inject(Attendance) private readonly attendance: Attendance,
    @Inject(Deletions) private readonly deletions: Deletions,
    @Inject(ORCHESTRATOR_OPTIONS) private readonly options: OrchestratorOptions,
  ) {
    // One listener for each open stream; it is removed with the stream.
    setMaxListeners(0, this.closing.signal);
  }

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

  /** Counts a stream. A drain lets it end before connections are closed. */
  track(closed: Promise<void>): void {
    this.streams.add(closed);
    void closed.then(() => this.streams.delete(closed));
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
