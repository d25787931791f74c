import { BelayError, type WorkerState } from '#libs/contracts';

/** The steps of a long-lived service at its start and its drain. */
export interface ServiceWork<T> {
  start(): Promise<void>;
  /** `started` is false when the service never ran. */
  drain(started: boolean): Promise<T>;
}

/**
 * The life of a worker or an orchestrator process (docs/state-machines.md#worker): idle → running → draining →
 * stopped. Two starts are one, and a failed start leads back to idle. A drain during the start begins once the start
 * is through. Every caller of drain shares one drain. A stopped service never starts again.
 */
export class ServiceRun<T> {
  private current: WorkerState = 'idle';
  private starting: Promise<void> | undefined;
  private draining: Promise<T> | undefined;

  constructor(private readonly work: ServiceWork<T>) {}

  get state(): WorkerState {
    return this.current;
  }

  /** @throws BelayError DRAINING after a call of drain */
  async start(): Promise<void> {
    if (this.draining !== undefined) {
      throw new BelayError('DRAINING', `This process is ${this.current}; it starts once. Start a new one.`);
    }
    this.starting ??= this.startOnce();
    await this.starting;
  }

  private async startOnce(): Promise<void> {
    try {
      await this.work.start();
      this.current = 'running';
    } catch (error) {
      this.starting = undefined;
      throw error;
    }
  }

  drain(): Promise<T> {
    this.draining ??= this.drainOnce();
    return this.draining;
  }

  private async drainOnce(): Promise<T> {
    // The state changes at once. A start that is under way finishes first.
    if (this.current === 'running') this.current = 'draining';
    await this.starting?.catch(() => undefined);
    const started = this.current !== 'idle';
    if (started) this.current = 'draining';
    try {
      return await this.work.drain(started);
    } finally {
      this.current = 'stopped';
    }
  }
}
