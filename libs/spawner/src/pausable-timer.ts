/** Node's longest timer; a longer wait uses several. */
const LONGEST_MS = 2 ** 31 - 1;

/** Calls back once after `leftMs` of running time; it can be paused and resumed. Monotonic clock. */
export class PausableTimer {
  private timer: NodeJS.Timeout | undefined;
  private runningSince = 0;

  constructor(
    private leftMs: number,
    private readonly callback: () => void,
  ) {
    this.resume();
  }

  pause(): void {
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.leftMs -= performance.now() - this.runningSince;
  }

  resume(): void {
    if (this.timer !== undefined) return;
    this.runningSince = performance.now();
    const waitMs = Math.min(Math.max(0, this.leftMs), LONGEST_MS);
    this.timer = setTimeout(() => {
      this.pause();
      if (this.leftMs > 0.5) this.resume();
      else this.callback();
    }, waitMs);
  }

  /** Stops the timer for good. */
  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.leftMs = Number.POSITIVE_INFINITY;
  }
}
