import { BelayError, type WorkerState } from '#libs/contracts';
import type { Janitor } from '#libs/executions';
import type { KillswitchService } from '#libs/killswitch';

/** The orchestrator's own state, as a worker's: idle → running → draining → stopped (R41). */
export class OrchestratorService {
  private current: WorkerState = 'idle';
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
    return this.current;
  }

  start(): void {
    if (this.current !== 'idle') throw new Error(`The orchestrator is ${this.current}; it starts once.`);
    this.current = 'running';
    this.killswitch.start();
    this.janitor.start();
    this.scheduleSweep();
  }

  /** New work is refused while draining; stops and reads are not. @throws BelayError DRAINING */
  assertAdmitting(): void {
    if (this.current === 'running') return;
    throw new BelayError(
      'DRAINING',
      'This orchestrator is draining and takes no new work. Try again in a moment.',
    );
  }

  async drain(): Promise<void> {
    if (this.current !== 'running') return;
    this.current = 'draining';
    this.closing.abort();
    clearTimeout(this.sweeping);
    await Promise.allSettled([this.janitor.stop(), this.pass]);
    this.killswitch.stopListening();
    this.current = 'stopped';
  }

  private scheduleSweep(): void {
    this.sweeping = setTimeout(() => {
      this.pass = this.killswitch
        .sweep()
        .catch(this.onError)
        .finally(() => this.current === 'running' && this.scheduleSweep());
    }, this.sweepMs);
  }
}
