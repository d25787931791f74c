import type { BelayEvent } from '#libs/contracts';
import { parseStored } from '#libs/valkey';
import { decodeEvent, decodeKind } from './decode-event';
import { StoreReads } from './store-reads';

/** One event's place in the list of its shard, without its content. */
export interface Change {
  /** Its id in the list of its shard. */
  readonly id: string;
  readonly executionId: string;
  /** Its id in the stream of its execution. */
  readonly eventId: string;
  readonly type: string;
  /** The state that was entered, where the event is a change of state. */
  readonly to: string | undefined;
}

/** The part of a shard's list that is kept. */
export interface KeptChanges {
  readonly first: string;
  readonly last: string;
  /** There were older changes, which are kept no longer. */
  readonly isTrimmed: boolean;
}

/** The place before the first change of a shard. */
export const NO_CHANGE = '0-0';

/**
 * The latest changes of all executions, shard by shard: every event in its order. The content of an event is in the stream of
 * its execution, and is read only for an event that somebody asked for.
 */
export class ChangeReads extends StoreReads {
  /** Changes of a shard after `after` (exclusive), oldest first. */
  async after(tag: string, after: string, limit: number): Promise<Change[]> {
    const key = this.list(tag);
    const rows = await this.quarantine.readable(key, async () =>
      this.redis.xrange(key, `(${after}`, '+', 'COUNT', limit),
    );
    return (rows ?? []).map(([id, fields]) => toChange(id, fields));
  }

  /** Undefined: the shard has no changes. */
  async kept(tag: string): Promise<KeptChanges | undefined> {
    const key = this.list(tag);
    // The server has no such call for a list that is not there.
    if ((await this.redis.type(key)) !== 'stream') return undefined;
    const info = namedFields(await this.redis.xinfo('STREAM', key));
    // Entries are trimmed only when another is added, so the list is never empty.
    const [[first], [last]] = [info['first-entry'], info['last-entry']] as [[string], [string]];
    return { first, last, isTrimmed: Number(info['entries-added']) > Number(info['length']) };
  }

  /** The event of a change. `trimmed`: its execution keeps this event no longer. Undefined: the execution was removed. */
  async event({ executionId, eventId }: Change): Promise<BelayEvent | 'trimmed' | undefined> {
    if (eventId === '') return undefined;
    const key = this.keys.execution(executionId, 'events');
    return this.quarantine.readable(key, async () => {
      const [row] = await this.redis.xrange(key, eventId, eventId);
      const text = row?.[1][1];
      if (text !== undefined) return { ...decodeEvent(key, executionId, text), id: eventId };
      return (await this.redis.exists(key)) === 1 ? 'trimmed' : undefined;
    });
  }

  /** The labels of an execution; undefined once it was removed. */
  async labels(executionId: string): Promise<Readonly<Record<string, string>> | undefined> {
    const key = this.keys.execution(executionId);
    return this.quarantine.readable(key, async () => {
      const text = await this.redis.hget(key, 'labels');
      return text === null ? undefined : parseStored<Record<string, string>>(key, text, 'labels');
    });
  }

  private list(tag: string): string {
    return this.keys.shard(tag, 'changes');
  }
}

/** An entry of no known entity, which somebody else has written, becomes a change without an event. */
function toChange(id: string, fields: readonly string[]): Change {
  const {
    x,
    i,
    y = '',
    o,
  } = namedFields(fields) as Readonly<Record<'x' | 'i' | 'o', string>> & {
    readonly y?: string;
  };
  const kind = decodeKind(y, o === '' ? undefined : o);
  if (kind === undefined) return { id, executionId: '', eventId: '', type: '', to: undefined };
  return { id, executionId: `exe_${x}`, eventId: i, type: kind.type, to: kind.to };
}

/** The fields of a reply that is a flat list of names and values. */
function namedFields(reply: unknown): Readonly<Record<string, unknown>> {
  const list = reply as readonly unknown[];
  return Object.fromEntries(list.flatMap((name, i) => (i % 2 === 0 ? [[String(name), list[i + 1]]] : [])));
}
