import { parseStored, type Valkey } from '#libs/valkey';
import { textOf } from './decode';
import { decodeEvent } from './decode-event';

/** An event that an earlier attempt at a node said. */
export interface AttemptEvent {
  readonly attempt: number;
  /** Valkey's clock, milliseconds. */
  readonly at: number;
  readonly name: string;
  readonly data?: unknown;
}

/** How many of the execution's newest events are looked through: some milliseconds of the server's time. */
const LOOKED_THROUGH = 2_000;
const MOST = 100;
const MOST_CHARS = 256 * 1024;

/**
 * Events of earlier agents of a node, oldest first (requirement R28): the newest 100 of them at most, and 256 Ki characters, out of
 * the newest events of the execution. One that cannot be read is left out.
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
    // Most are of other kinds: they are not worth a parse.
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
      // Listed where it is a record that cannot be read; whatever it is, it is worth no failed start.
      void quarantine.note(error);
    }
  }
  return said.toReversed();
}
