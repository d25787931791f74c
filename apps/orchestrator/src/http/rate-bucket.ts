import { burstOf, type RequestRate } from '#libs/contracts';

/**
 * A token bucket: it has room for `burst` requests, and regains `perSecond` of them each second. It counts when it is asked, so
 * it needs no timer. `now` must be monotonic, in milliseconds: with a wall clock a step of the clock would give or take requests.
 */
export class RateBucket {
  private readonly burst: number;
  private left: number;
  private countedAt: number;

  constructor(
    readonly rate: RequestRate,
    private readonly now: () => number,
  ) {
    this.burst = burstOf(rate);
    this.left = this.burst;
    this.countedAt = now();
  }

  /** Counts one request if there is room for it. Returns 0, or the milliseconds until there is room. */
  take(): number {
    const waitMs = this.waitMs();
    if (waitMs === 0) this.left--;
    return waitMs;
  }

  /** The milliseconds until there is room for a request; 0: there is. */
  waitMs(): number {
    const now = this.now();
    const regained = ((now - this.countedAt) / 1_000) * this.rate.perSecond;
    this.left = Math.min(this.burst, this.left + regained);
    this.countedAt = now;
    return this.left >= 1 ? 0 : Math.max(1, Math.ceil(((1 - this.left) / this.rate.perSecond) * 1_000));
  }
}
