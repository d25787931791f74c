import type { FollowLogsOptions, LogEnd, LogLine } from './client.types';
import { followFrames } from './follow-frames';
import type { Transport } from './send-request';

/** This many ids are remembered, to drop lines that a new connection repeats. */
const REMEMBERED = 20_000;

/** Every line of one agent's log, once, until the server says `end`. */
export async function* followLogs(
  transport: Transport,
  path: string,
  options: FollowLogsOptions,
  waitMs?: (attempt: number) => number,
): AsyncGenerator<LogLine, void> {
  const seen = new Set<string>();
  let ended = false;
  const frames = followFrames(transport, {
    path,
    options,
    isOver: () => ended,
    ...(waitMs === undefined ? {} : { waitMs }),
  });
  for await (const frame of frames) {
    if (frame.event === 'end') {
      ended = true;
      options.onEnd?.(toEnd(frame.data));
      return;
    }
    const line = frame.event === 'log' ? toLine(frame.data) : undefined;
    if (line === undefined || seen.has(line.id)) continue;
    remember(seen, line.id);
    yield line;
  }
}

function remember(seen: Set<string>, id: string): void {
  seen.add(id);
  if (seen.size <= REMEMBERED) return;
  for (const oldest of seen) {
    seen.delete(oldest);
    return;
  }
}

function toLine(data: string): LogLine | undefined {
  try {
    const value = JSON.parse(data) as Partial<Record<keyof LogLine, unknown>> | null;
    if (typeof value?.line !== 'string') return undefined;
    return {
      ...(value as LogLine),
      id: String(value.id),
      stream: value.stream === 'stderr' ? 'stderr' : 'stdout',
    };
  } catch {
    return undefined;
  }
}

/** Reads the last frame, which describes the whole output. */
function toEnd(data: string): LogEnd {
  try {
    return JSON.parse(data) as LogEnd;
  } catch {
    return {};
  }
}
