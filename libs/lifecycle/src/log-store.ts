import type { AgentLogs, LogFile, LogLine, OutputSize } from '#libs/contracts';
import { parseStored, type Valkey } from '#libs/valkey';
import { textOf } from './decode';

/** The bounds of one agent's output on the server: the first lines and the last ones. */
export const LOG_LIMITS = {
  headLines: 200,
  headBytes: 64 * 1024,
  tailLines: 1_000,
  tailBytes: 256 * 1024,
} as const;
/**
 * A log outlives its ended execution by this time. So the log of an agent that prints nothing lasts as long as its
 * record. Milliseconds.
 */
const LONGER_MS = 24 * 3_600_000;

/** A line on its way to the log. `n` counts from 1, `offset` is the bytes of output before it. */
export interface LogEntry {
  readonly n: number;
  readonly offset: number;
  readonly stream: 'stdout' | 'stderr' | 'end';
  readonly bytes: Buffer;
  /** A newline follows. */
  readonly ends: boolean;
}

/** One entry of the stream as the server gives it. */
export type LogRow = readonly [Buffer, readonly Buffer[]];

/** How far a log was read. The number and offset of the next line tell whether lines are missing in between. */
export interface LogPosition {
  readonly n: number;
  readonly bytes: number;
}

export const LOG_START: LogPosition = { n: 0, bytes: 0 };

/** One row as read: a line, or the end of the output. */
export interface ReadRow {
  readonly id: string;
  readonly line?: LogLine;
  readonly skipped?: OutputSize;
  readonly next: LogPosition;
}

/**
 * The output of agents. Lines are appended by number, so that a call may be repeated. A reader is told which lines
 * are missing.
 */
export class LogStore {
  private readonly settings: string;

  constructor(
    private readonly valkey: Valkey,
    retentionMs: number,
  ) {
    this.settings = JSON.stringify({ ...LOG_LIMITS, ttlMs: retentionMs + LONGER_MS });
  }

  key(executionId: string, agentId: string): string {
    return this.valkey.keys.agentLog(executionId, agentId);
  }

  /** @throws OutcomeUnknownError: the caller may send the same lines again. */
  async append(
    executionId: string,
    agentId: string,
    entries: readonly LogEntry[],
    file?: LogFile,
  ): Promise<void> {
    await this.valkey.scripts.run('appendLog', this.key(executionId, agentId), [
      this.settings,
      file === undefined ? '' : JSON.stringify(file),
      ...entries.flatMap(({ n, offset, stream, bytes, ends }) => [
        n,
        ends ? stream : `${stream}+`,
        offset,
        bytes,
      ]),
    ]);
  }

  async read(executionId: string, agentId: string): Promise<AgentLogs> {
    const key = this.key(executionId, agentId);
    const [rows, file] = await this.valkey.quarantine.reading(key, async () =>
      Promise.all([this.valkey.redis.xrangeBuffer(key, '-', '+'), this.file(executionId, agentId)]),
    );
    let position = LOG_START;
    let kept = 0;
    let keptBytes = 0;
    let ended = false;
    const lines: LogLine[] = [];
    for (const row of rows) {
      const read = readRow(row, position);
      if (read.line === undefined) ended = true;
      else {
        lines.push(read.line);
        kept += 1;
        keptBytes += read.next.bytes - position.bytes - (read.skipped?.bytes ?? 0);
      }
      position = read.next;
    }
    // The end has a number of its own, and is no line.
    const total = { lines: position.n - (ended ? 1 : 0), bytes: position.bytes };
    return {
      lines,
      total,
      skipped: { lines: total.lines - kept, bytes: total.bytes - keptBytes },
      ended,
      ...(file === undefined ? {} : { file }),
    };
  }

  /** The file with the whole output; undefined while the agent has printed nothing. */
  async file(executionId: string, agentId: string): Promise<LogFile | undefined> {
    const key = this.valkey.keys.agentLogFile(executionId, agentId);
    const text = await this.valkey.redis.hget(key, 'about');
    return text === null ? undefined : parseStored<LogFile>(key, text, 'about');
  }
}

/** One entry, and the gap between the position and the entry. */
export function readRow([id, fields]: LogRow, from: LogPosition): ReadRow {
  const [, n, , name, , offset, , bytes = Buffer.alloc(0)] = fields;
  const [stream = '', open] = textOf(name?.toString()).split(/(?=\+)/);
  const number = Number(n);
  const at = Number(offset);
  const missing = number - from.n - 1;
  const skipped = missing > 0 ? { skipped: { lines: missing, bytes: at - from.bytes } } : {};
  const next = { n: number, bytes: at + bytes.length + (open === undefined && stream !== 'end' ? 1 : 0) };
  const lineId = id.toString();
  if (stream === 'end') return { id: lineId, next, ...skipped };
  const line = bytes.toString();
  const isWhole = Buffer.from(line).equals(bytes);
  return {
    id: lineId,
    next,
    ...skipped,
    line: {
      id: lineId,
      at: Number.parseInt(lineId, 10),
      n: number,
      stream: stream === 'stderr' ? 'stderr' : 'stdout',
      line,
      ...(isWhole ? {} : { base64: bytes.toString('base64') }),
      ...(open === undefined ? {} : { partial: true as const }),
      ...skipped,
    },
  };
}
