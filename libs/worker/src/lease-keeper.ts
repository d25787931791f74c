import { isBelayError } from '#libs/contracts';
import type { Heartbeat } from '#libs/lifecycle';
import type { WorkerLease } from '#libs/spawner';
import { Subject, type Observable } from 'rxjs';

export interface LeaseKeeperOptions {
  readonly heartbeatMs: number;
  /** The worker stops its own agents after this silence, counted from the sending of the last acknowledged renewal. */
  readonly fenceAfterMs: number;
  /** Tries once to renew. @throws BelayError STALE_EPOCH | NOT_FOUND when another process has ended the lease */
  readonly renew: () => Promise<Heartbeat>;
  /** Tells the guardian the monotonic time from which it counts the silence that makes it kill. */
  readonly armFence: (sentAt: number) => void;
}

/** The time between two tries while renewals fail. Milliseconds. */
const RETRY_MS = 250;
/** Exits that the event loop reports within this time after a silence may still be the guardian's work. Milliseconds. */
const AFTER_SILENCE_MS = 2_000;

/**
 * Renews one worker's lease on a timer of its own, and does nothing else. All other work of the worker starts from `renewed$`,
 * and the keeper never waits for it. A subscriber must neither throw nor wait.
 *
 * Time is counted on the monotonic clock from the SENDING of a renewal. The server grants the lease later than that, so the
 * keeper fences itself before the lease can run out, however long the answer took. A renewal is tried once. After a failure
 * comes another one with its own time of sending, since an answer to the first of several tries would count from too early
 * (docs/architecture.md#leases-and-fencing).
 */
export class LeaseKeeper implements WorkerLease {
  private readonly renewals = new Subject<number>();
  private readonly silences = new Subject<void>();
  private readonly contacts = new Subject<void>();
  private readonly losses = new Subject<void>();
  private readonly troubles = new Subject<unknown>();
  private lastBeat: Heartbeat | undefined;
  private renewal: NodeJS.Timeout | undefined;
  private fence: NodeJS.Timeout | undefined;
  private running = false;
  /** Monotonic time at which the last acknowledged renewal was sent. */
  private renewedAt = Number.NEGATIVE_INFINITY;
  private silent = false;
  private troubled = false;
  /** Monotonic time until which an exit by SIGKILL may be the guardian's work. */
  private silentUntil = 0;

  constructor(private readonly options: LeaseKeeperOptions) {}

  /** The answer to the last acknowledged renewal. */
  get beat(): Heartbeat | undefined {
    return this.lastBeat;
  }

  /** A renewal was acknowledged; how long it took. Milliseconds. */
  get renewed$(): Observable<number> {
    return this.renewals;
  }

  /** There was no renewal for `fenceAfterMs`. */
  get silent$(): Observable<void> {
    return this.silences;
  }

  /** The first renewal after a silence. */
  get contact$(): Observable<void> {
    return this.contacts;
  }

  /** Another process has ended the lease: nothing renews it any more. May come more than once. */
  get taken$(): Observable<void> {
    return this.losses;
  }

  /** The first failure after a success. */
  get trouble$(): Observable<unknown> {
    return this.troubles;
  }

  /** Begins at the registration, which granted the first lease. `sentAt`: the monotonic time of its sending. */
  start(sentAt: number): void {
    this.running = true;
    this.holdFrom(sentAt);
    this.schedule(this.options.heartbeatMs - (performance.now() - sentAt));
  }

  /** Stops renewing and watching. The lease runs out by itself. */
  stop(): void {
    this.running = false;
    clearTimeout(this.renewal);
    clearTimeout(this.fence);
  }

  /** The time since the sending of the last acknowledged renewal. Milliseconds. */
  get silenceMs(): number {
    return performance.now() - this.renewedAt;
  }

  /**
   * The time until other processes may act on the missing renewals, by a clock that runs on while this process is stopped.
   * Milliseconds.
   */
  get leftMs(): number {
    return this.options.fenceAfterMs - this.silenceMs;
  }

  /** Whether the lease is safe: no other process may act on missing renewals yet. */
  get holds(): boolean {
    return this.leftMs > 0;
  }

  /** Whether a silence was so long lately that the guardian may have killed the worker's trees. */
  get wasSilent(): boolean {
    return !this.holds || performance.now() < this.silentUntil;
  }

  /** Whether the worker was told to fence itself and has had no contact since. */
  get isFenced(): boolean {
    return this.silent;
  }

  private schedule(ms: number): void {
    if (this.running) this.renewal = setTimeout(() => void this.renew(), Math.max(0, ms));
  }

  private async renew(): Promise<void> {
    const sentAt = performance.now();
    let pauseMs = this.options.heartbeatMs;
    try {
      this.acknowledge(await this.options.renew(), sentAt);
    } catch (error) {
      if (!this.running) return;
      if (isTaken(error)) this.losses.next();
      else pauseMs = Math.min(pauseMs, RETRY_MS);
      if (!this.troubled) this.troubles.next(error);
      this.troubled = true;
    }
    this.schedule(pauseMs - (performance.now() - sentAt));
  }

  private acknowledge(beat: Heartbeat, sentAt: number): void {
    // An answer that arrives after the keeper was stopped grants nothing.
    if (!this.running) return;
    this.troubled = false;
    if (!this.holds) this.silentUntil = performance.now() + AFTER_SILENCE_MS;
    this.holdFrom(sentAt);
    if (this.silent && this.holds) {
      this.silent = false;
      this.contacts.next();
    }
    this.lastBeat = beat;
    this.renewals.next(performance.now() - sentAt);
  }

  private holdFrom(sentAt: number): void {
    this.renewedAt = sentAt;
    const leftMs = Math.max(1, this.options.fenceAfterMs - this.silenceMs);
    this.options.armFence(sentAt);
    clearTimeout(this.fence);
    this.fence = setTimeout(() => this.look(), leftMs);
  }

  /** Fences the worker: nothing of it may run when another worker may get its lease. */
  private look(): void {
    if (this.silent) return;
    if (this.holds) {
      // A timer may fire a moment early.
      this.fence = setTimeout(() => this.look(), 1);
      return;
    }
    this.silent = true;
    this.silences.next();
  }
}

const isTaken = (error: unknown): boolean =>
  isBelayError(error) && (error.code === 'STALE_EPOCH' || error.code === 'NOT_FOUND');
