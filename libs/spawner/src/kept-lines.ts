import { LOG_LIMITS } from '#libs/lifecycle';

/**
 * The lines that the server keeps of those it is sent, by the rule of appendLog.lua: the first ones and the last ones. The
 * worker is the only writer of a log, so it knows what is left out without asking.
 */
export class KeptLines {
  /** Sent, and not kept. */
  readonly leftOut = { lines: 0, bytes: 0 };
  private headLines = 0;
  private headBytes = 0;
  private readonly tail: { readonly bytes: number; readonly size: number }[] = [];
  private tailBytes = 0;

  constructor(private readonly limits: typeof LOG_LIMITS = LOG_LIMITS) {}

  /** `size` counts a newline that follows, `bytes` does not. */
  add(bytes: number, size: number): void {
    const { headLines, headBytes, tailLines, tailBytes } = this.limits;
    const { tail } = this;
    if (tail.length === 0 && this.headLines < headLines && this.headBytes + bytes <= headBytes) {
      this.headLines++;
      this.headBytes += bytes;
      return;
    }
    tail.push({ bytes, size });
    this.tailBytes += bytes;
    while (tail.length > tailLines || (this.tailBytes > tailBytes && tail.length > 1)) {
      const gone = tail.shift() ?? { bytes: 0, size: 0 };
      this.tailBytes -= gone.bytes;
      this.leftOut.lines++;
      this.leftOut.bytes += gone.size;
    }
  }
}
