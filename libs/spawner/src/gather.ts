/** Sends at most one batch at a time, some time after its first entry. */
export class Gather {
  private timer: NodeJS.Timeout | undefined;
  private sending: Promise<void> = Promise.resolve();

  constructor(private readonly send: () => Promise<void>) {}

  touch(afterMs: number): void {
    this.timer ??= setTimeout(() => void this.flush(), afterMs);
  }

  /** Sends now, after the batch under way. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.sending = this.sending.then(this.send);
    return this.sending;
  }
}
