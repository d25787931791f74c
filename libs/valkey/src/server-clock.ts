/**
 * The server's clock as this process sees it: an offset, measured on each reply with the server's time, plus the monotonic
 * clock in between. For time stamps of local events. A decision about state takes the time in its script.
 */
export class ServerClock {
  private offset: number | undefined;

  /** Takes one measurement: the server's time, and the monotonic times (ms) at which its call was sent and answered. */
  observe(serverMs: number, sentAt: number, answeredAt: number): void {
    this.offset = serverMs - (sentAt + answeredAt) / 2;
  }

  /** Now, in milliseconds of the server's clock; by the wall clock until the first measurement. */
  now(): number {
    return Math.round(this.offset === undefined ? Date.now() : performance.now() + this.offset);
  }
}
