import { isBelayError } from '#libs/contracts';
import type { Heartbeat } from '#libs/lifecycle';

export interface LeaseKeeperOptions {
  readonly heartbeatMs: number;
  /** Silence, counted from the sending of the last acknowledged renewal, after which the worker stops its own agents. */
  readonly fenceAfterMs: number;
  /** One try to renew. @throws BelayError STALE_EPOCH | NOT_FOUND when the lease was given up by the others */
  readonly renew: () => Promise<Heartbeat>;
  /** Tells the guardian that the silence after which it kills counts from that moment of the monotonic clock. */
  readonly armFence: (sentAt: number) => void;
  /** A renewal was acknowledged, that long after it was sent. Must not throw or wait. */
  readonly onRenewed: (beat: Heartbeat, tookMs: number) => void;
  /** No renewal for `fenceAfterMs`. */
  readonly onSilent: () => void;
  /** The first renewal after `onSilent`. */
  readonly onContact: () => void;
  /** The lease was given up by the others: nothing renews it any more. May come more than once. */
  readonly onTaken: () => void;
  /** The first failure after a success. */
  readonly onTrouble: (error: unknown) => void;
}

/** Between two tries while renewals fail. Milliseconds. */
const RETRY_MS = 250;
/** Exits that the event loop hands out this long after a silence ended may still be the guardian's work. Milliseconds. */
const AFTER_SILENCE_MS = 2_000;

/**
 * Renews one worker's lease on a timer of its own, and nothing else: whatever a worker does besides hangs on `onRenewed`
 * and is never waited for.
 *
 * Time is counted on the monotonic clock from the SENDING of a renewal. The server grants the lease later than that, so
 * the keeper fences itself before the lease can run out, whatever the answer took. A renewal is tried once; a failed one is
 * followed by another with its own time of sending, since an answer to the first of several tries would count from too
 * early.
 */
export class LeaseKeeper {
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

  /** From the registration on, which granted the first lease. `sentAt`: monotonic time at which it was sent. */
  start(sentAt: number): void {
    this.running = true;
    this.holdFrom(sentAt);
    this.schedule(this.options.heartbeatMs - (performance.now() - sentAt));
  }

  /** Renews no more and watches no more. The lease runs out by itself. */
  stop(): void {
    this.running = false;
    clearTimeout(this.renewal);
    clearTimeout(this.fence);
  }

  /** Since the sending of the last acknowledged renewal. Milliseconds. */
  get silenceMs(): number {
    return performance.now() - this.renewedAt;
  }

  /** By our own clock, which goes on while we are stopped: until others may act because renewals are missing. */
  get leftMs(): number {
    return this.options.fenceAfterMs - this.silenceMs;
  }

  /** No renewal is missing for so long that others may act. */
  get holds(): boolean {
    return this.leftMs > 0;
  }

  /** Whether silence was so long lately that the guardian may have ended our trees. */
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
      if (isTaken(error)) this.options.onTaken();
      else pauseMs = Math.min(pauseMs, RETRY_MS);
      if (!this.troubled) this.options.onTrouble(error);
      this.troubled = true;
    }
    this.schedule(pauseMs - (performance.now() - sentAt));
  }

  private acknowledge(beat: Heartbeat, sentAt: number): void {
    // One that was under way when the keeper was stopped grants nothing any more.
    if (!this.running) return;
    this.troubled = false;
    if (!this.holds) this.silentUntil = performance.now() + AFTER_SILENCE_MS;
    this.holdFrom(sentAt);
    if (this.silent && this.holds) {
      this.silent = false;
      this.options.onContact();
    }
    this.options.onRenewed(beat, performance.now() - sentAt);
  }

  private holdFrom(sentAt: number): void {
    this.renewedAt = sentAt;
    const leftMs = Math.max(1, this.options.fenceAfterMs - this.silenceMs);
    this.options.armFence(sentAt);
    clearTimeout(this.fence);
    this.fence = setTimeout(() => this.look(), leftMs);
  }

  /** Before anyone else may get our lease, nothing of ours runs any more. */
  private look(): void {
    if (this.silent) return;
    if (this.holds) {
      // A timer may fire a moment early.
      this.fence = setTimeout(() => this.look(), 1);
      return;
    }
    this.silent = true;
    this.options.onSilent();
  }
}

const isTaken = (error: unknown): boolean =>
  isBelayError(error) && (error.code === 'STALE_EPOCH' || error.code === 'NOT_FOUND');
