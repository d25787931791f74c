import { write, writeSync } from 'node:fs';

/** Why lines of a log are missing: their number, and the system's error. */
export type OnDropped = (lines: number, code: string) => void;

/** Bytes that are kept while nothing can be written. */
const KEPT_BYTES = 256 * 1024;
/** The time until the next try, if no line comes before. Milliseconds. */
const RETRY_MS = 1_000;
/** The same where the reader is only slow. Milliseconds. */
const FULL_PIPE_MS = 50;
/** The wait for a slow reader at the end of the process. Milliseconds. */
const LAST_MS = 500;

/**
 * Writes log lines to a descriptor, in their order, and never fails: a full disk or a reader that is gone must not end the
 * program that logs. Meanwhile the oldest lines wait, up to a bound; later ones are dropped and counted. It tries again at
 * each line and once a second; `onDropped` is called once something could be written again.
 *
 * pino's own destination ends the program at such an error, and waits forever for the disk at a `fatal` line.
 */
export class LogWriter {
  private waiting: Buffer[] = [];
  private bytes = 0;
  private dropped = 0;
  private fault = '';
  private isWriting = false;
  /** The process ends: a refused write is not tried again. */
  private isLast = false;
  private retry: NodeJS.Timeout | undefined;
  /** Set by the owner of the log. */
  onDropped: OnDropped = () => undefined;

  constructor(
    private readonly fd: number,
    private readonly keptBytes = KEPT_BYTES,
  ) {}

  /** The number of bytes that wait. */
  get waitingBytes(): number {
    return this.bytes;
  }

  /** Whether the last try to write failed. */
  get isStuck(): boolean {
    return this.retry !== undefined;
  }

  /** Writes one line, with its end. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.bytes + bytes.length > this.keptBytes) {
      this.dropped++;
    } else {
      this.waiting.push(bytes);
      this.bytes += bytes.length;
    }
    this.next();
  }

  /** Writes all waiting lines without the event loop, before the process ends. Does not wait for a full disk. */
  flushSync(): void {
    this.isLast = true;
    clearTimeout(this.retry);
    // The system has the first part already.
    const rest = Buffer.concat(this.waiting.splice(this.isWriting ? 1 : 0));
    this.bytes -= rest.length;
    const until = performance.now() + LAST_MS;
    for (let at = 0; at < rest.length;) {
      try {
        at += writeSync(this.fd, rest, at);
      } catch (error) {
        // There is nowhere left to report it.
        if (!isFullPipe(error as NodeJS.ErrnoException) || performance.now() > until) return;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_PIPE_MS);
      }
    }
  }

  private next(): void {
    if (this.isWriting || this.waiting.length === 0) return;
    clearTimeout(this.retry);
    this.isWriting = true;
    const all = Buffer.concat(this.waiting);
    this.waiting = [all];
    write(this.fd, all, (error, written) => {
      this.isWriting = false;
      if (error === null) this.wrote(all, written);
      else this.failed(error);
    });
  }

  private wrote(all: Buffer, written: number): void {
    this.retry = undefined;
    this.bytes -= written;
    if (written < all.length) this.waiting[0] = all.subarray(written);
    else this.waiting.shift();
    if (this.dropped > 0 && this.bytes <= this.keptBytes / 2) {
      const lines = this.dropped;
      this.dropped = 0;
      this.onDropped(lines, this.fault);
    }
    this.next();
  }

  private failed(error: NodeJS.ErrnoException): void {
    this.fault = error.code ?? error.message;
    if (this.isLast) {
      this.waiting = [];
      this.bytes = 0;
      return;
    }
    this.retry = setTimeout(() => this.next(), isFullPipe(error) ? FULL_PIPE_MS : RETRY_MS);
    this.retry.unref();
  }
}

function isFullPipe({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EAGAIN';
}
