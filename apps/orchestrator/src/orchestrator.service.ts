import { BelayError, type WorkerState } from '#libs/contracts';
import type { Janitor } from '#libs/executions';
import type { KillswitchService } from '#libs/killswitch';
import { ServiceRun } from '#libs/lifecycle';

/** The orchestrator's own state, as a worker's: idle → running → draining → stopped (R41). */
export class OrchestratorService {
  private readonly life = new ServiceRun<void>({
    start: async () => this.startOnce(),
    drain: async () => this.drainOnce(),
  });
  private sweeping: NodeJS.Timeout | undefined;
  private pass: Promise<void> | undefined;
  /** Ends open streams; aborted when the drain begins. */
  readonly closing = new AbortController();

  constructor(
    private readonly janitor: Janitor,
    private readonly killswitch: KillswitchService,
    private readonly sweepMs: number,
    private readonly onError: (error: unknown) => void,
  ) {}

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

  private async startOnce(): Promise<void> {
    this.killswitch.start();
    this.janitor.start();
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
    await Promise.allSettled([this.janitor.stop(), this.pass]);
    this.killswitch.stopListening();
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
