import { hostname } from 'node:os';
import type { LogFile } from '#libs/contracts';
import { LOG_LIMITS, type LogEntry, type LogStore } from '#libs/lifecycle';
import { Gather } from './gather';
import { KeptLines } from './kept-lines';
import { Bucket, type OutputPiece } from './process';

const GATHER_MS = 100;
/** Lines of one script call: it must not block the server, whatever an agent writes. */
const BATCH_LINES = 200;
const BATCH_BYTES = 64 * 1024;
/** The rate of one agent's output while it runs; a line costs more than its bytes. Its last lines are always sent. */
const RATE = { perSecond: 64 * 1024, burst: 512 * 1024 };
const LINE_COST = 64;
/** The queue of lines keeps as much as the server does; it may grow a little beyond before it is cut. */
const KEPT_LINES = LOG_LIMITS.headLines + LOG_LIMITS.tailLines;
const KEPT_BYTES = LOG_LIMITS.headBytes + LOG_LIMITS.tailBytes;
const SLACK = 1.25;

/** The agent whose output it is, and the path of the whole output. */
export interface LogOwner {
  readonly executionId: string;
  readonly agentId: string;
  readonly workerId: string;
  readonly path: string;
  /**
   * Called with the lines that the server does not keep: those not sent because newer ones came first, and at the end those
   * that the server left out.
   */
  readonly onDropped: (lines: number, bytes: number) => void;
}

/**
 * An agent's output on the server, for `belay logs` from anywhere: its first lines and its last ones. If an agent writes faster
 * than it may send, the oldest waiting lines after the first ones are dropped, so the end is always there.
 */
export class ServerLog {
  /** Sorted by number; the first lines, up to `headUntil`, are not dropped. */
  private waiting: LogEntry[] = [];
  private waitingBytes = 0;
  private headUntil = 0;
  private headBytes = 0;
  private count = 0;
  private offset = 0;
  private file: LogFile;
  /** The file as the server knows it: at the end there is more to say. */
  private fileTold: LogFile | undefined;
  private isOver = false;
  /** Lines on their way to the server. */
  private inFlight: readonly LogEntry[] = [];
  private readonly kept = new KeptLines();
  private readonly bucket = new Bucket(RATE);
  private readonly gather = new Gather(async () => this.send());

  constructor(
    private readonly store: LogStore,
    private readonly owner: LogOwner,
  ) {
    this.file = { workerId: owner.workerId, host: hostname(), path: owner.path };
  }

  write({ stream, bytes, ends }: OutputPiece): void {
    this.waiting.push({ n: ++this.count, offset: this.offset, stream, bytes, ends });
    this.offset += bytes.length + (ends ? 1 : 0);
    this.waitingBytes += bytes.length;
    this.headBytes += bytes.length;
    if (this.count <= LOG_LIMITS.headLines && this.headBytes <= LOG_LIMITS.headBytes)
      this.headUntil = this.count;
    if (this.waiting.length > KEPT_LINES * SLACK || this.waitingBytes > KEPT_BYTES * SLACK) this.trim();
    this.gather.touch(GATHER_MS);
  }

  /**
   * Sends the remaining lines and the end, so that a follower stops. It is called again after the server was away. An agent
   * that wrote nothing gets no log.
   */
  async close(lostBytes: number): Promise<void> {
    if (this.count === 0 && lostBytes === 0) return;
    if (!this.isOver) {
      this.isOver = true;
      this.tellLeftOut();
      this.file = { ...this.file, lostBytes };
      this.waiting.push({
        n: this.count + 1,
        offset: this.offset,
        stream: 'end',
        bytes: Buffer.alloc(0),
        ends: true,
      });
    }
    await this.gather.flush();
  }

  /** Before the end is stored, all waiting lines are sent, unless the server stays away. */
  private tellLeftOut(): void {
    for (const entry of [...this.inFlight, ...this.waiting]) this.keep(entry);
    const { lines, bytes } = this.kept.leftOut;
    if (lines > 0) this.owner.onDropped(lines, bytes);
  }

  private keep(entry: LogEntry): void {
    if (entry.stream !== 'end') this.kept.add(entry.bytes.length, sizeOf(entry));
  }

  private trim(): void {
    const firsts = this.waiting.findIndex(({ n }) => n > this.headUntil);
    let until = firsts;
    let bytes = 0;
    while (until < this.waiting.length - 1) {
      const lines = this.waiting.length - (until - firsts);
      if (lines <= KEPT_LINES && this.waitingBytes - bytes <= KEPT_BYTES) break;
      bytes += this.waiting[until++]?.bytes.length ?? 0;
    }
    const dropped = this.waiting.splice(firsts, until - firsts);
    this.waitingBytes -= bytes;
    const size = dropped.reduce((sum, entry) => sum + sizeOf(entry), 0);
    this.owner.onDropped(dropped.length, size);
  }

  /** Sends one batch; at the end all of them. */
  private async send(): Promise<void> {
    while (this.waiting.length > 0) {
      const waitMs = this.isOver ? 0 : this.bucket.waitMs();
      if (waitMs > 0) return this.gather.touch(Math.max(waitMs, GATHER_MS));
      const batch = this.take();
      const { executionId, agentId } = this.owner;
      const { file } = this;
      this.inFlight = batch;
      try {
        await this.store.append(executionId, agentId, batch, file === this.fileTold ? undefined : file);
        this.fileTold = file;
        if (!this.isOver) for (const entry of batch) this.keep(entry);
      } catch {
        // The server is away: the next lines, or the end, try again. The file on the worker has all of them.
        this.waiting = [...batch, ...this.waiting];
        this.waitingBytes = this.waiting.reduce((sum, { bytes }) => sum + bytes.length, 0);
        return;
      } finally {
        this.inFlight = [];
      }
      if (!this.isOver && this.waiting.length > 0) return this.gather.touch(GATHER_MS);
    }
  }

  private take(): LogEntry[] {
    let bytes = 0;
    let lines = 0;
    while (lines < Math.min(this.waiting.length, BATCH_LINES) && bytes < BATCH_BYTES)
      bytes += this.waiting[lines++]?.bytes.length ?? 0;
    this.waitingBytes -= bytes;
    this.bucket.take(bytes + lines * LINE_COST);
    return this.waiting.splice(0, lines);
  }
}

/** The size with the newline that follows. */
function sizeOf({ bytes, ends }: LogEntry): number {
  return bytes.length + (ends ? 1 : 0);
}
