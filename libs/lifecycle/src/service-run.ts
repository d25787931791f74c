import { BelayError, type WorkerState } from '#libs/contracts';

/** The steps of a long-lived service when it starts and when it drains. */
export interface ServiceWork<T> {
  start(): Promise<void>;
  /** `started` is false when it never ran. */
  drain(started: boolean): Promise<T>;
}

/**
 * The life of a worker or an orchestrator process: idle → running → draining → stopped (requirement R41). Two starts are one, a
 * failed start is idle again, a drain during the start is honoured once it is through, every caller of drain shares
 * one, and a stopped service never starts again.
 */
export class ServiceRun<T> {
  private current: WorkerState = 'idle';
  private starting: Promise<void> | undefined;
  private draining: Promise<T> | undefined;

  constructor(private readonly work: ServiceWork<T>) {}

  get state(): WorkerState {
    return this.current;
  }

  /** @throws BelayError DRAINING once a drain was asked for */
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
    // The state changes at once; a start under way is finished first.
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
