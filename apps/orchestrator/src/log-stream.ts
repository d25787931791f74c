import { AGENT_MACHINE, isBelayError, isEnded } from '#libs/contracts';
import { LOG_START, readRow, type LifecycleService, type LogRow } from '#libs/lifecycle';
import { either, isAfter } from './execution-events';
import type { SseStream } from './sse';

const BATCH = 200;
const WAIT_MS = 1_000;
/** After this many empty waits the log of an ended agent is complete: its worker died and wrote no end. */
const QUIET_WAITS = 3;

export interface LogStreamOptions {
  readonly executionId: string;
  readonly agentId: string;
  /** The client's last line. */
  readonly lastId?: string;
  /** Aborted when the server drains. */
  readonly closing: AbortSignal;
}

/** Streams an agent's kept output, then follows it to its end. A draining server announces that in a frame of its own. */
export async function streamLog(
  lifecycle: LifecycleService,
  stream: SseStream,
  options: LogStreamOptions,
): Promise<void> {
  const { signal, release } = either(stream.gone.signal, options.closing);
  void stream.closed.then(release);
  const redis = lifecycle.valkey.connections.create('blocking');
  const stop = (): void => redis.disconnect();
  signal.addEventListener('abort', stop);
  const key = lifecycle.logs.key(options.executionId, options.agentId);
  const read = async (cursor: string, wait: boolean): Promise<readonly LogRow[]> => {
    const found = wait
      ? await redis.xreadBuffer('COUNT', BATCH, 'BLOCK', WAIT_MS, 'STREAMS', key, cursor)
      : await redis.xreadBuffer('COUNT', BATCH, 'STREAMS', key, cursor);
    return found?.[0]?.[1] ?? [];
  };
  try {
    await follow(lifecycle, stream, options, read);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    if (options.closing.aborted) stream.send('server_shutting_down', { retryAfterMs: 1_000 });
    stream.end();
    signal.removeEventListener('abort', stop);
    redis.disconnect();
  }
}

/** Follows until the end of the log, or until the client is gone. */
async function follow(
  lifecycle: LifecycleService,
  stream: SseStream,
  { executionId, agentId, lastId, closing }: LogStreamOptions,
  read: (cursor: string, wait: boolean) => Promise<readonly LogRow[]>,
): Promise<void> {
  let cursor = '0-0';
  let position = LOG_START;
  let quiet = 0;
  while (!closing.aborted) {
    // Lines are sent before the end is stored, so an ended agent without a log wrote nothing.
    const isEmpty = position.n === 0 && (await hasEnded(lifecycle, agentId));
    const rows = await read(cursor, !isEmpty);
    quiet = rows.length === 0 ? quiet + 1 : 0;
    let isOver =
      rows.length === 0 && (isEmpty || (quiet >= QUIET_WAITS && (await hasEnded(lifecycle, agentId))));
    let skipped: object = {};
    for (const row of rows) {
      const found = readRow(row, position);
      cursor = found.id;
      position = found.next;
      // Lines that the client has are read too: the numbers of all lines show which are missing.
      const isNew = lastId === undefined || isAfter(cursor, lastId);
      if (found.line === undefined) {
        isOver = true;
        skipped = found.skipped === undefined ? {} : { skipped: found.skipped };
      } else if (isNew && !(stream.send('log', found.line, cursor) && (await stream.drained()))) return;
    }
    if (!isOver) continue;
    const file = await lifecycle.logs.file(executionId, agentId);
    stream.send('end', { ...skipped, ...(file === undefined ? {} : { file }) });
    return;
  }
}

async function hasEnded(lifecycle: LifecycleService, agentId: string): Promise<boolean> {
  try {
    return isEnded(AGENT_MACHINE, (await lifecycle.agents.get(agentId)).state);
  } catch (error) {
    if (isBelayError(error) && error.code === 'NOT_FOUND') return true;
    throw error;
  }
}
