import { parseStored, type Valkey } from '#libs/valkey';
import { textOf } from './decode';
import { decodeEvent } from './decode-event';

/** An event that an earlier attempt at a node said. */
export interface AttemptEvent {
  readonly attempt: number;
  /** The server's clock, milliseconds. */
  readonly at: number;
  readonly name: string;
  readonly data?: unknown;
}

/** This many of the execution's newest events are searched: some milliseconds of the server's time. */
const LOOKED_THROUGH = 2_000;
const MOST = 100;
const MOST_CHARS = 256 * 1024;

/**
 * Events that earlier attempts at a node said, oldest first (docs/agents.md#input). At most the newest 100, and 256
 * Ki characters, among the newest events of the execution. An event that cannot be read is left out.
 */
export async function previousAttemptEvents(
  { redis, keys, quarantine }: Valkey,
  executionId: string,
  nodeId: string,
): Promise<AttemptEvent[]> {
  const key = keys.execution(executionId, 'events');
  const rows = await redis.xrevrange(key, '+', '-', 'COUNT', LOOKED_THROUGH);
  const said: AttemptEvent[] = [];
  let chars = 0;
  for (const [streamId, values] of rows) {
    const text = textOf(values[1]);
    // Most events are of other kinds: this look saves parsing them.
    if (!text.includes('"a.event"')) continue;
    try {
      const { type, nodeId: of, attempt = 0, at, data } = decodeEvent(key, executionId, text, streamId);
      if (type !== 'agent.event' || of !== nodeId) continue;
      chars += text.length;
      if (said.length === MOST || chars > MOST_CHARS) break;
      const { name, value } = data as { readonly name: string; readonly value?: string };
      const known = value === undefined ? {} : { data: parseStored(key, value, streamId) };
      said.push({ attempt, at, name, ...known });
    } catch (error) {
      // An unreadable record goes to the quarantine. No failure here may fail the start.
      void quarantine.note(error);
    }
  }
  return said.toReversed();
}
