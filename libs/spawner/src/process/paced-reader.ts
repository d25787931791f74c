import { readSync } from 'node:fs';
import type { Readable } from 'node:stream';
import type { LineSplitter } from './line-splitter';
import type { Bucket, PacedSource, ReadPace } from './read-pace';

/** Bytes handled in one go. Short lines cost the most, and this many of them block the event loop for a few milliseconds. */
const SLICE_BYTES = 4 * 1024;
/** The cost of a line beside its bytes: `yes` writes lines of one byte. */
const LINE_COST = 128;

/** The capacity of a pipe; a process that still writes is not waited for. Bytes. */
const PIPE_BYTES = 1024 * 1024;
const READ_BYTES = 64 * 1024;

/** Feeds a pipe to a splitter at a bounded rate. While bytes are unread the pipe is paused, and its writer waits. */
export class PacedReader implements PacedSource {
  /** Resolves when the pipe is closed and all its bytes were handed on. */
  readonly done: Promise<void>;
  #chunks: Buffer[] = [];
  #asked = false;
  #held = false;
  #closed = false;
  #bucket: Bucket | undefined;
  #resolve: () => void = () => undefined;

  constructor(
    private readonly stream: Readable,
    private readonly splitter: LineSplitter,
    private readonly pace: ReadPace,
    bucket: Bucket,
  ) {
    this.#bucket = bucket;
    this.done = new Promise((resolve) => (this.#resolve = resolve));
    stream.on('data', (chunk: Buffer) => {
      stream.pause();
      this.#chunks.push(chunk);
      this.#ask();
    });
    stream.on('error', () => {}); // 'close' follows
    stream.once('close', () => {
      this.#closed = true;
      this.#held = false;
      this.#ask();
    });
  }

  get bucket(): Bucket | undefined {
    return this.#bucket;
  }

  /** Stops reading until `release`: the consumer of the lines cannot keep up. */
  hold(): void {
    this.#held = !this.#closed;
  }

  release(): void {
    this.#held = false;
    if (this.#chunks.length > 0) this.#ask();
    else if (!this.#closed) this.stream.resume();
  }

  /** Reads the rest as fast as the event loop allows: its writer is dead. */
  hurry(): void {
    this.#bucket = undefined;
    this.#ask();
    this.pace.wake();
  }

  /**
   * Reads the pipe's present content and closes it. It asks the system directly, since on a busy machine the event loop may not
   * reach the pipe in any reasonable time.
   */
  close(): void {
    const { stream } = this;
    if (!stream.destroyed && !stream.readableEnded) {
      // Bytes that were read and not handed on come as 'data' with this call.
      while (stream.read() !== null);
      const fd = (stream as { _handle?: { fd?: number } })._handle?.fd;
      if (fd !== undefined && fd >= 0) this.#chunks.push(...readNow(fd));
    }
    stream.destroy();
  }

  readSlice(): { cost: number; more: boolean } {
    this.#asked = false;
    const chunk = this.#held ? undefined : this.#chunks.shift();
    if (chunk === undefined) {
      if (this.#closed && !this.#held) this.#end();
      return { cost: 0, more: false };
    }
    const slice = chunk.subarray(0, SLICE_BYTES);
    if (slice.length < chunk.length) this.#chunks.unshift(chunk.subarray(SLICE_BYTES));
    const cost = slice.length + this.splitter.write(slice) * LINE_COST;
    const more = !this.#held && (this.#chunks.length > 0 || this.#closed);
    this.#asked = more;
    if (!more && !this.#held) this.stream.resume();
    return { cost, more };
  }

  #ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.pace.ask(this);
  }

  #end(): void {
    this.splitter.end();
    this.#resolve();
  }
}

/** Without waiting: our end of a pipe does not block. */
function readNow(fd: number): Buffer[] {
  const chunks: Buffer[] = [];
  try {
    for (let all = 0; all < PIPE_BYTES;) {
      const buffer = Buffer.alloc(READ_BYTES);
      const bytes = readSync(fd, buffer);
      if (bytes === 0) break;
      chunks.push(buffer.subarray(0, bytes));
      all += bytes;
    }
  } catch {
    // EAGAIN: the pipe is empty.
  }
  return chunks;
}
