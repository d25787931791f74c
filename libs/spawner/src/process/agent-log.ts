import { createWriteStream, renameSync, type WriteStream } from 'node:fs';
import { openOwnToAppend } from './own-file';
import type { OutputPiece } from './process-host.types';

const NEWLINE = Buffer.from('\n');
/** Bytes of output that may wait for the disk before the agent must wait. */
const WAITING_BYTES = 256 * 1024;

/**
 * One agent's log file: `<ISO time> <stdout|stderr> <F|P> <bytes>` a line, with the agent's bytes (P: the line goes on in the
 * next entry of its stream, or has no newline). Output beyond the cap loses its middle: `path` keeps the beginning, up to half
 * of the cap; then `path.1` and `path.2` take a quarter each, and the older of them is replaced. A full disk or a vanished
 * folder ends the log, never the agent; `fault` says why (docs/agents.md#log-files).
 */
export class AgentLog {
  /** The agent's bytes in the older and the newer of the two files that alternate. */
  readonly #turns: number[] = [];
  readonly #closing = new Set<Promise<void>>();
  #file: WriteStream | undefined;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #written = 0;
  #isFull = false;
  /** Whether the reader was told to pause. */
  #isAwaited = false;
  #finished = false;
  #stamp = 0;
  #stampText = '';
  /** Bytes of output that are in no file. */
  lostBytes = 0;
  fault: string | undefined;

  /** @param onDrain called when writing may go on after `write` returned false, and when the log has failed. */
  constructor(
    private readonly path: string,
    private readonly capBytes: number,
    private readonly onDrain: () => void,
  ) {
    this.#open(path);
  }

  /** @returns false when the reader should pause until `onDrain`. */
  write({ stream, bytes, ends }: OutputPiece): boolean {
    if (this.#finished) {
      this.lostBytes += bytes.length;
      return true;
    }
    const head = Buffer.from(`${this.#time()} ${stream} ${ends ? 'F' : 'P'} `);
    const size = head.length + bytes.length + 1;
    if (this.#written + this.#pendingBytes + size > this.#room()) this.#turn();
    if (this.#pending.length === 0) setImmediate(() => this.#flush());
    this.#pending.push(head, bytes, NEWLINE);
    this.#pendingBytes += size;
    const last = this.#turns.length - 1;
    if (last >= 0) this.#turns[last] = (this.#turns[last] ?? 0) + bytes.length;
    this.#isAwaited ||= this.#isFull || this.#pendingBytes >= WAITING_BYTES;
    return !this.#isAwaited;
  }

  /** Resolves when the system has all output, or after `waitMs`. */
  async close(waitMs: number): Promise<void> {
    if (!this.#finished) this.#end();
    this.#finished = true;
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise<void>((resolve) => (timer = setTimeout(resolve, waitMs)));
    await Promise.race([Promise.all(this.#closing), bound]);
    clearTimeout(timer);
  }

  #time(): string {
    const now = Date.now();
    if (now !== this.#stamp) this.#stampText = new Date(now).toISOString();
    this.#stamp = now;
    return this.#stampText;
  }

  #room(): number {
    return this.#turns.length === 0 ? this.capBytes / 2 : this.capBytes / 4;
  }

  #flush(): void {
    if (this.#finished || this.#pending.length === 0) return;
    const bytes = Buffer.concat(this.#pending);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#written += bytes.length;
    this.#isFull = this.#file?.write(bytes) === false;
    if (!this.#isFull) this.#drained();
  }

  /** Opens the next file, in place of the older of the two that alternate. */
  #turn(): void {
    this.#end();
    this.#written = 0;
    if (this.#turns.length === 2) {
      this.lostBytes += this.#turns.shift() ?? 0;
      try {
        renameSync(`${this.path}.2`, `${this.path}.1`);
      } catch (error) {
        this.#fail(error);
      }
    }
    this.#turns.push(0);
    this.#open(`${this.path}.${this.#turns.length}`);
  }

  #end(): void {
    this.#flush();
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    const closed = new Promise<void>((resolve) => {
      if (file.closed) resolve();
      else file.once('close', resolve);
    });
    this.#closing.add(closed);
    void closed.then(() => this.#closing.delete(closed));
    file.end();
  }

  /** Synchronous, since the file may be renamed before an asynchronous open. */
  #open(path: string): void {
    if (this.#finished) return;
    try {
      const fd = openOwnToAppend(path);
      this.#file = createWriteStream(path, { fd, highWaterMark: WAITING_BYTES });
      this.#file.on('drain', () => this.#drained());
      this.#file.on('error', (error) => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    }
  }

  #drained(): void {
    this.#isFull = false;
    const wasAwaited = this.#isAwaited;
    this.#isAwaited = false;
    if (wasAwaited) this.onDrain();
  }

  #fail(error: unknown): void {
    this.fault = error instanceof Error ? error.message : String(error);
    this.#finished = true;
    this.#pending = [];
    this.#drained();
  }
}
