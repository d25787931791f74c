import { LOG_LIMITS } from '#libs/lifecycle';

/**
 * The lines that the server keeps of those that it is sent, by the rule of appendLog.lua: the first and the last ones. The
 * worker is a log's only writer, so it knows what is left out without asking.
 */
export class KeptLines {
  /** Lines that were sent and are not kept. */
  readonly leftOut = { lines: 0, bytes: 0 };
  private headLines = 0;
  private headBytes = 0;
  private readonly tail: { readonly bytes: number; readonly size: number }[] = [];
  private tailBytes = 0;

  constructor(private readonly limits: typeof LOG_LIMITS = LOG_LIMITS) {}

  /** `size` counts a newline that follows; `bytes` does not. */
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
