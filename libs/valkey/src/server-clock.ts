/**
 * Valkey's clock as this process sees it: the offset measured on each reply that carries the server's time, run on by
 * the monotonic clock between them. For stamping what happens here; what decides state takes the time in the script.
 */
export class ServerClock {
  private offset: number | undefined;

  /** Takes one measurement: the server's time, and when (monotonic ms) its call was sent and answered. */
  observe(serverMs: number, sentAt: number, answeredAt: number): void {
    this.offset = serverMs - (sentAt + answeredAt) / 2;
  }

  /** Now, milliseconds of the server's clock; the wall clock until the first measurement. */
  now(): number {
    return Math.round(this.offset === undefined ? Date.now() : performance.now() + this.offset);
  }
}
