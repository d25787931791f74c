import { setMaxListeners } from 'node:events';
import { BelayError, type WorkerState } from '#libs/contracts';
import type { Janitor, ProducerIntake } from '#libs/executions';
import type { KillswitchService } from '#libs/killswitch';
import { Phases, ServiceRun } from '#libs/lifecycle';

/** How long open streams may take to end. Milliseconds. */
const STREAMS_END_MS = 2_000;
/** How long each other phase of a drain may take. Milliseconds. */
const PHASE_MS = 4_000;

/** The orchestrator's own state, as a worker's: idle → running → draining → stopped (R41). */
export class OrchestratorService {
  private readonly life = new ServiceRun<void>({
    start: async () => this.startOnce(),
    drain: async () => this.drainOnce(),
  });
  /** What a drain is at, and what it had to leave behind. */
  readonly phases = new Phases((phase, trouble) => this.onError({ phase, ...trouble }));
  private sweeping: NodeJS.Timeout | undefined;
  private pass: Promise<void> | undefined;
  /** Ends open streams; aborted when the drain begins. */
  readonly closing = new AbortController();

  constructor(
    private readonly janitor: Janitor,
    private readonly killswitch: KillswitchService,
    private readonly producers: ProducerIntake,
    private readonly sweepMs: number,
    private readonly onError: (error: unknown) => void,
  ) {
    // One for each open stream; they go with it.
    setMaxListeners(0, this.closing.signal);
  }

  private readonly streams = new Set<Promise<void>>();

  get state(): WorkerState {
    return this.life.state;
  }

  start(): Promise<void> {
    return this.life.start();
  }

  /** Every caller shares one drain. */
  drain(): Promise<void> {
    return this.life.drain();
  }

  /** A stream the drain must let end before connections are closed. */
  track(closed: Promise<void>): void {
    this.streams.add(closed);
    void closed.then(() => this.streams.delete(closed));
  }

  private async startOnce(): Promise<void> {
    this.killswitch.start();
    this.janitor.start();
    this.producers.start();
    this.scheduleSweep();
  }

  /** New work is refused while draining; stops and reads are not. @throws BelayError DRAINING */
  assertAdmitting(): void {
    if (this.life.state === 'running') return;
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
  }

  private scheduleSweep(): void {
    this.sweeping = setTimeout(() => {
      this.pass = this.killswitch
        .sweep()
        .catch(this.onError)
        .finally(() => !this.closing.signal.aborted && this.scheduleSweep());
    }, this.sweepMs);
  }
}
