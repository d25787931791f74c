import type { Delivery } from '#libs/dispatch';
import type { Position } from './position';

/** A larger body gets the event's own fields without its data. Bytes of UTF-8 at most three times this. */
const MOST_BODY = 16_384;

/** Beyond it a `Date` has no text. */
const LAST_MS = 8_640_000_000_000_000;
/** The type of the message about events that are not sent. Every endpoint gets it. */
export const GAP_TYPE = 'webhooks.gap';

interface StoredEvent {
  readonly type: string;
  readonly seq: number;
  readonly at: number;
  readonly entity?: string;
}

function parseEvent(text: string): StoredEvent | undefined {
  try {
    const event = JSON.parse(text) as Partial<StoredEvent> | null;
    const isGood =
      typeof event?.type === 'string' &&
      Number.isSafeInteger(event.seq) &&
      typeof event.at === 'number' &&
      Math.abs(event.at) <= LAST_MS;
    return isGood ? (event as StoredEvent) : undefined;
  } catch {
    return undefined;
  }
}

const bodyOf = (type: string, at: number, data: object): string =>
  JSON.stringify({ type, timestamp: new Date(at).toISOString(), data });

/** The message of a stored event, with its number; undefined where it cannot be read. */
export function messageOf(id: string, text: string): { seq: number; delivery: Delivery } | undefined {
  const event = parseEvent(text);
  if (event === undefined) return undefined;
  const { type, seq, at, entity } = event;
  const whole = bodyOf(type, at, { id, ...event });
  const body =
    whole.length <= MOST_BODY ? whole : bodyOf(type, at, { id, seq, type, entity, at, truncated: true });
  return { seq, delivery: { id: `evt_${id}`, type, body } };
}

/** Tells an endpoint that events between two positions are not sent. The same gap has the same id. */
export function gapMessage(after: Position, next: Position, reason: 'retention' | 'failover'): Delivery {
  const type = GAP_TYPE;
  const at = Number(next.id.split('-')[0]);
  const missing = reason === 'retention' ? { missing: next.seq - after.seq - 1 } : {};
  return {
    id: `gap_${after.id}_${next.id}`,
    type,
    body: bodyOf(type, at, { type, after: after.id, before: next.id, reason, ...missing }),
  };
}
