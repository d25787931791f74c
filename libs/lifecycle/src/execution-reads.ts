import {
  agentIdOf,
  isExecutionId,
  NotFoundError,
  selectorMatches,
  UnknownCursorError,
  type BelayEvent,
  type ExecutionRecord,
  type ExecutionState,
  type NodeRecord,
  type NodeState,
  type Selector,
  type Page,
} from '#libs/contracts';
import { isCorrupt, parseStored } from '#libs/valkey';
import { decodeExecution, decodeNode, textOf } from './decode';
import { decodeEvent } from './decode-event';
import type { ExecutionQuery, MarkedHold } from './execution-store.types';
import type { ShardScripts } from './shard-scripts';
import type { SlotStore } from './slot-store';
import { StoreReads } from './store-reads';

/** A list reads at most this many executions of each index and shard, the newest first. */
const MOST_LISTED = 10_000;

/** Reads executions, their nodes and their events: each one or two commands. Writes nothing. */
export class ExecutionReads extends StoreReads {
  constructor(
    scripts: ShardScripts,
    private readonly slots: Pick<SlotStore, 'limitsOf'>,
  ) {
    super(scripts);
  }

  /** How many executions are in a state, across all shards. */
  async countIn(state: ExecutionState): Promise<number> {
    return this.sizeOf((tag) => this.keys.executionsIn(tag, state));
  }

  /** @throws NotFoundError */
  async get(id: string): Promise<ExecutionRecord> {
    if (!isExecutionId(id)) throw new NotFoundError('execution', id);
    const key = this.keys.execution(id);
    return this.quarantine.reading(key, async () => {
      const fields = await this.redis.hgetall(key);
      if (Object.keys(fields).length === 0) throw new NotFoundError('execution', id);
      return decodeExecution(key, fields);
    });
  }

  /**
   * Newest first, across all shards; the cursor is the last id seen (ids are time-ordered).
   * @throws BelayError INVALID_REQUEST for a cursor that no page has answered
   */
  async list(query: ExecutionQuery = {}): Promise<Page<ExecutionRecord>> {
    const limit = query.limit ?? 50;
    if (query.cursor !== undefined && !isExecutionId(query.cursor)) throw new UnknownCursorError();
    const { states = [], labels = [], selector = [] } = query;
    // The index of one label is narrower than the index of a state. The other conditions filter afterwards.
    const [narrow] = [...labels, ...labelsNamedBy(selector)];
    const indicesOf = (tag: string): string[] => {
      if (narrow !== undefined) return [this.keys.executionsLabelled(tag, narrow)];
      if (states.length > 0) return states.map((state) => this.keys.executionsIn(tag, state));
      return [this.keys.shard(tag, 'idx:exe')];
    };
    const ids = new Set<string>();
    let isCut = false;
    await Promise.all(
      this.keys.tags().flatMap((tag) =>
        indicesOf(tag).map(async (index) => {
          // One more than the list shows: its presence tells that there are more.
          const found = await this.redis.zrevrange(index, 0, MOST_LISTED);
          if (found.length > MOST_LISTED) isCut = true;
          for (const id of found.slice(0, MOST_LISTED)) ids.add(id);
        }),
      ),
    );
    const ordered = [...ids]
      .filter((id) => query.cursor === undefined || id < query.cursor)
      .sort()
      .toReversed();
    const items: ExecutionRecord[] = [];
    for (const id of ordered) {
      if (items.length === limit) break;
      const record = await this.get(id).catch((error: unknown) => {
        // An execution whose record cannot be read is in the quarantine, and hides no other
        // (docs/architecture.md#a-record-that-cannot-be-read).
        if (error instanceof NotFoundError || isCorrupt(error)) return undefined;
        throw error;
      });
      if (record === undefined || !matches(record, query)) continue;
      items.push(record);
    }
    const last = items.at(-1);
    return items.length === limit && last !== undefined && last.id !== ordered.at(-1)
      ? { items, nextCursor: last.id }
      : { items, ...(isCut ? { truncated: true } : {}) };
  }

  /** The nodes in the order of the spec. */
  async nodes(
    id: string,
    query: { states?: readonly NodeState[]; cursor?: string; limit?: number } = {},
  ): Promise<Page<NodeRecord>> {
    const limit = query.limit ?? 1_000;
    const from = wholeCursor(query.cursor);
    const ids = await this.redis.lrange(this.keys.execution(id, 'order'), from, from + limit - 1);
    if (ids.length === 0) return { items: [] };
    const key = this.keys.execution(id, 'nodes');
    const texts = await this.quarantine.reading(key, async () => this.redis.hmget(key, ...ids));
    const items = ids
      .flatMap((nodeId, i) => this.decodeNode(key, id, nodeId, textOf(texts[i])) ?? [])
      .filter((node) => query.states === undefined || query.states.includes(node.state));
    const told = await this.withLimits(id, items);
    return ids.length === limit ? { items: told, nextCursor: String(from + limit) } : { items: told };
  }

  /** Adds to each ready node the full limit that it waits for. */
  private async withLimits<T extends NodeRecord>(id: string, nodes: readonly T[]): Promise<T[]> {
    const ready = nodes.filter(({ state }) => state === 'ready');
    if (ready.length === 0) return [...nodes];
    const limits = await this.slots.limitsOf(
      ready.map(({ index, attempt }) => agentIdOf(id, index, attempt)),
    );
    return nodes.map((node) => {
      const limit = node.state === 'ready' ? limits[ready.indexOf(node)] : undefined;
      return limit === undefined ? node : { ...node, limit };
    });
  }

  private decodeNode(key: string, id: string, nodeId: string, text: string): NodeRecord | undefined {
    try {
      return decodeNode(key, id, nodeId, text);
    } catch (error) {
      void this.quarantine.note(error);
      return undefined;
    }
  }

  /** One node, with its result if there is one. @throws NotFoundError */
  async node(id: string, nodeId: string): Promise<NodeRecord & { result?: unknown }> {
    const key = this.keys.execution(id, 'nodes');
    const results = this.keys.execution(id, 'results');
    return this.quarantine.reading(key, async () => {
      const [text, result] = await Promise.all([
        this.redis.hget(key, nodeId),
        this.redis.hget(results, nodeId),
      ]);
      if (text === null) throw new NotFoundError('node', nodeId);
      const [node] = await this.withLimits(id, [decodeNode(key, id, nodeId, text)]);
      return {
        ...(node as NodeRecord),
        ...(result === null ? {} : { result: parseStored(results, result, nodeId) }),
      };
    });
  }

  /** Events after `after` (exclusive; `0-0` for the first), oldest first. */
  async events(id: string, after: string, limit = 1_000): Promise<BelayEvent[]> {
    const key = this.keys.execution(id, 'events');
    const rows = await this.redis.xrange(key, `(${after}`, '+', 'COUNT', limit);
    return rows.map(([streamId, values]) => ({
      ...this.decodeEvent(key, id, streamId, textOf(values[1])),
      id: streamId,
    }));
  }

  /**
   * An event that cannot be read becomes an event that says so: the reader of the stream goes on, and knows of the
   * gap (docs/architecture.md#a-record-that-cannot-be-read).
   */
  private decodeEvent(key: string, id: string, streamId: string, text: string): Omit<BelayEvent, 'id'> {
    try {
      return decodeEvent(key, id, text);
    } catch (error) {
      void this.quarantine.note(error);
      return { seq: 0, type: 'execution.unreadable', entity: 'execution', at: Number.parseInt(streamId, 10) };
    }
  }

  /**
   * The oldest and the newest event id kept. A subscriber that asks for events outside of them is told that events
   * are missing.
   */
  async keptEventIds(id: string): Promise<{ first: string; last: string } | undefined> {
    const key = this.keys.execution(id, 'events');
    const [first, last] = await Promise.all([
      this.redis.xrange(key, '-', '+', 'COUNT', 1),
      this.redis.xrevrange(key, '+', '-', 'COUNT', 1),
    ]);
    const [[oldest] = [], [newest] = []] = [first[0], last[0]];
    return oldest === undefined || newest === undefined ? undefined : { first: oldest, last: newest };
  }

  /** Paused executions that a latch paused, with that latch. */
  async held(): Promise<{ id: string; latchId: string }[]> {
    const lists = await Promise.all(
      this.keys.tags().map(async (tag) => {
        const ids = await this.redis.zrange(this.keys.executionsIn(tag, 'paused'), 0, '-1');
        const holders = await Promise.all(
          ids.map(async (id) => {
            const key = this.keys.execution(id);
            return this.quarantine.readable(key, async () => this.redis.hget(key, 'heldBy'));
          }),
        );
        return ids.flatMap((id, i) => {
          const latchId = holders[i];
          return typeof latchId === 'string' ? { id, latchId } : [];
        });
      }),
    );
    return lists.flat();
  }

  /** The latch that paused the execution. Undefined: a person paused it, or nobody did. */
  async pausingLatch(id: string): Promise<string | undefined> {
    return (await this.redis.hget(this.keys.execution(id), 'heldBy')) ?? undefined;
  }

  /** Paused executions whose processes wait for the order that freezes them. */
  async freezing(): Promise<MarkedHold[]> {
    return this.marked('freezing');
  }

  /** Resumed executions whose processes wait for the order that thaws them. */
  async thawing(): Promise<MarkedHold[]> {
    return this.marked('thawing');
  }

  /** Executions whose own freeze an order thaws, or has thawed, and nobody has looked since. */
  async thaws(): Promise<readonly { readonly id: string; readonly thawId: string }[]> {
    const lists = this.keys
      .tags()
      .map(async (tag) => this.redis.zrange(this.keys.shard(tag, 'thaws'), '0', '-1'));
    return (await Promise.all(lists)).flat().map((entry) => {
      const at = entry.indexOf(' ');
      return { id: entry.slice(0, at), thawId: entry.slice(at + 1) };
    });
  }

  private async marked(name: 'freezing' | 'thawing'): Promise<MarkedHold[]> {
    const sets = this.keys.tags().map(async (tag) => this.redis.smembers(this.keys.shard(tag, name)));
    const ids = (await Promise.all(sets)).flat();
    return Promise.all(
      ids.map(async (id) => {
        const key = this.keys.execution(id);
        const mark = await this.quarantine.readable(key, async () => this.redis.hget(key, name));
        return { id, mark: mark ?? '' };
      }),
    );
  }
}

/** @throws BelayError INVALID_REQUEST */
function wholeCursor(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (/^\d{1,9}$/.test(cursor)) return Number(cursor);
  throw new UnknownCursorError();
}

/** The labels that every match of a selector has: those of its conditions with a single value. */
function labelsNamedBy(selector: Selector): string[] {
  return selector.flatMap((one) =>
    one.op === 'in' && one.values.length === 1 ? [`${one.key}=${one.values[0]}`] : [],
  );
}

function matches(record: ExecutionRecord, query: ExecutionQuery): boolean {
  if (query.states !== undefined && query.states.length > 0 && !query.states.includes(record.state))
    return false;
  if (query.selector !== undefined && !selectorMatches(query.selector, record.labels)) return false;
  return (query.labels ?? []).every((label) => {
    const at = label.indexOf('=');
    return record.labels[label.slice(0, at)] === label.slice(at + 1);
  });
}
