import {
  BelayError,
  isExecutionId,
  NotFoundError,
  shardOf,
  type AgentId,
  type BelayEvent,
  type DispatchEntry,
  type ExecutionRecord,
  type ExecutionSpec,
  type ExecutionState,
  type NodeRecord,
  type NodeState,
  type RecordedError,
  type StopReason,
} from '#libs/contracts';
import { isCorrupt, parseStored, patiently, type ScriptReply } from '#libs/valkey';
import { monotonicFactory } from 'ulid';
import { decodeExecution, decodeNode, textOf } from './decode';
import { decodeEvent } from './decode-event';
import { hashText } from './hash-text';
import { nodeKindsOf } from './node-kinds';
import { accepted } from './refusals';
import type { ShardScripts } from './scope';
import { stageExecution } from './stage-execution';
import { StateRoom } from './state-room';

/** A failover takes seconds and comes once; what is lost a third time has another cause. */
const MOST_STAGINGS = 3;

/** Why, by whom and by which order an execution is stopped. */
export interface StopRequest {
  readonly reason: StopReason;
  readonly orderId?: string;
  readonly actor?: string;
  readonly note?: string;
  readonly error?: RecordedError;
  /** The count of its shard's beginnings when it was asked: what began, or was retried, after that is left alone. */
  readonly reach?: number;
  /** An order that its record names and nobody has any more: this one takes its place. */
  readonly replaces?: string;
  /** Only if its deadline has passed, which the script sees itself. */
  readonly isLate?: boolean;
}

export interface AdvanceResult {
  readonly state: ExecutionState;
  readonly more: boolean;
  readonly entries: readonly DispatchEntry[];
  /** Attempts that were handed over and are cancelled now: their jobs are of no use any more. */
  readonly dropped: readonly (readonly [agentId: AgentId, pool: string])[];
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor?: string;
  /** Only of a last page: there are more than a list reads, and the oldest of them are left out. */
  readonly truncated?: true;
}

export interface ExecutionQuery {
  readonly states?: readonly ExecutionState[];
  /** `k=v`; all must hold. */
  readonly labels?: readonly string[];
  readonly cursor?: string;
  readonly limit?: number;
}

const ulid = monotonicFactory();
/** Nodes moved by one advance call: some 5 ms of the server's time (docs/adr/0004 has the figures). */
const ADVANCE_LIMIT = 200;
/** Executions of an index and shard that a list reads, the newest. */
const MOST_LISTED = 10_000;

/** Executions: every change one script, every read one or two commands. */
export class ExecutionStore {
  readonly room: StateRoom;

  constructor(private readonly scripts: ShardScripts) {
    this.room = new StateRoom(scripts.valkey, scripts.options.maxStateBytes);
  }

  private get keys() {
    return this.scripts.valkey.keys;
  }

  private get redis() {
    return this.scripts.valkey.redis;
  }

  /** With an idempotency key the shard follows from the key, so that one script can compare. */
  newId(idempotencyKey?: string): string {
    const { shards } = this.keys;
    const wanted = idempotencyKey === undefined ? undefined : shardOf(idempotencyKey, shards);
    for (;;) {
      const id = `exe_${ulid()}`;
      if (wanted === undefined || shardOf(id, shards) === wanted) return id;
    }
  }

  /**
   * Makes an execution exist; durable when this resolves (R25). `canonical` is the spec's canonical text: the same
   * key with the same text answers the first execution (R30).
   * @throws ServerFullError · BelayError IDEMPOTENCY_CONFLICT · LATCHED when it should start and a latch covers it
   */
  async create(
    spec: ExecutionSpec,
    options: { start: boolean; canonical: string; actor?: string; id?: string },
  ): Promise<{ id: string; created: boolean }> {
    const id = options.id ?? this.newId(spec.idempotencyKey);
    const text = (name: string, value: string | number | undefined) =>
      value === undefined ? {} : { [name]: String(value) };
    const fields = {
      name: spec.name,
      labels: JSON.stringify(spec.labels),
      onFailure: spec.onFailure,
      specHash: await hashText(options.canonical),
      ...text('idempotencyKey', spec.idempotencyKey),
      ...text('timeoutMs', spec.timeoutMs),
      ...text('graceMs', spec.graceMs),
      ...text('actor', options.actor),
      ...(spec.maxCostUsd === undefined ? {} : { maxCostMicros: String(Math.round(spec.maxCostUsd * 1e6)) }),
    };
    const labels = Object.entries(spec.labels).map(([k, v]) => `${k}=${v}`);
    const kinds = await nodeKindsOf(spec);
    const args = [
      JSON.stringify(fields),
      spec.nodes.length,
      options.start ? 1 : 0,
      JSON.stringify(labels),
      JSON.stringify(kinds.kinds),
      JSON.stringify(kinds.labels),
    ];
    // A graph may be tens of megabytes: who waits for a latch asks again and again, and sends it once.
    const admission = await this.scripts.json('admitExecution', id, args);
    if (admission['admitted'] !== true) return accepted(admission, 'execution', id);
    const key = this.keys.execution(id);
    await this.room.assertRoom(key);
    // Staging again over what is there is staging once.
    const stage = async (): Promise<void> =>
      this.room.guarding(key, async () => stageExecution(this.scripts.valkey, id, spec));
    let stagings = 0;
    let reply: ScriptReply;
    do {
      await patiently(stage);
      reply = await this.scripts.json('commitExecution', id, args);
      // A failover in between may have lost some of it.
    } while (reply.refused === 'STAGING_LOST' && ++stagings < MOST_STAGINGS);
    return accepted(reply, 'execution', id);
  }

  async start(id: string): Promise<{ state: ExecutionState }> {
    return accepted(await this.scripts.json('startExecution', id), 'execution', id);
  }

  /** running → paused. Repeatable; a paused one can still be frozen. `heldBy`: by a latch, if it is still engaged. */
  async pause(
    id: string,
    request: { mode: 'drain' | 'freeze'; actor: string; note?: string; heldBy?: string },
  ): Promise<{ state: ExecutionState }> {
    const { mode, actor, note = '', heldBy = '' } = request;
    const reply = await this.scripts.json('pauseExecution', id, [mode, actor, note, heldBy]);
    return accepted(reply, 'execution', id);
  }

  /** Paused executions that a latch paused, with that latch. */
  async held(): Promise<{ id: string; latchId: string }[]> {
    const lists = await Promise.all(
      this.keys.tags().map(async (tag) => {
        const ids = await this.redis.zrange(this.keys.shard(tag, 'idx:exe:paused'), 0, '-1');
        const holders = await Promise.all(
          ids.map(async (id) => this.redis.hget(this.keys.execution(id), 'heldBy')),
        );
        return ids.flatMap((id, i) => {
          const latchId = holders[i];
          return typeof latchId === 'string' ? { id, latchId } : [];
        });
      }),
    );
    return lists.flat();
  }

  /** Resumed ones whose trees still wait for the order that thaws them. */
  async thawing(): Promise<string[]> {
    const sets = this.keys.tags().map(async (tag) => this.redis.smembers(this.keys.shard(tag, 'thawing')));
    return (await Promise.all(sets)).flat();
  }

  /** The order that thaws its trees is in the log. */
  async thawOrdered(id: string): Promise<void> {
    await this.redis.hdel(this.keys.execution(id), 'thawing');
    await this.redis.srem(this.keys.shard(this.keys.tagOf(id), 'thawing'), id);
  }

  /**
   * paused → running. `wasFrozen`: its agents stand still until an order thaws them. `released`: only what that latch
   * paused, and not while another freeze covers it. @throws BelayError LATCHED, for a person
   */
  async resume(
    id: string,
    actor: string,
    released = '',
  ): Promise<{ state: ExecutionState; wasFrozen: boolean }> {
    return accepted(await this.scripts.json('resumeExecution', id, [actor, released]), 'execution', id);
  }

  /**
   * stopped | failed → running with the next epoch; completed nodes keep their results, the others begin again. `retryId`
   * makes it repeatable. @throws BelayError NOT_PROVED while an attempt of it may still run · LATCHED
   */
  async retry(
    id: string,
    request: { retryId: string; actor: string; force: boolean },
  ): Promise<{ state: ExecutionState; epoch: number }> {
    const args = [request.retryId, request.actor, request.force ? 1 : 0];
    return accepted(await this.scripts.json('retryExecution', id, args), 'execution', id);
  }

  /** No agent of it starts from here on; the first reason wins (R20). */
  async stop(
    id: string,
    request: StopRequest,
  ): Promise<{ state: ExecutionState; already: boolean; live: number; orderId?: string; spared?: boolean }> {
    return accepted(await this.scripts.json('stopExecution', id, [JSON.stringify(request)]), 'execution', id);
  }

  /** One bounded step of what is left to do by itself; call again while `more`. */
  async advance(id: string, limit = ADVANCE_LIMIT): Promise<AdvanceResult> {
    const reply = accepted<AdvanceResult>(
      await this.scripts.json('advanceExecution', id, [limit]),
      'execution',
      id,
    );
    // An empty Lua table is an object, not a list.
    const { entries, dropped } = reply;
    return {
      ...reply,
      entries: Array.isArray(entries) ? entries : [],
      dropped: Array.isArray(dropped) ? dropped : [],
    };
  }

  /** The bare compare-and-set on state, epoch and version (R3). */
  async transition(
    id: string,
    to: ExecutionState,
    expect: { from?: ExecutionState; epoch?: number; version?: number; set?: Record<string, string> } = {},
  ): Promise<{ state: ExecutionState; version: number }> {
    const reply = await this.scripts.json('transitionExecution', id, [to, JSON.stringify(expect)]);
    return accepted(reply, 'execution', id);
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

  private get quarantine() {
    return this.scripts.valkey.quarantine;
  }

  /** Newest first, across all shards; the cursor is the last id seen (ids are time-ordered). */
  async list(query: ExecutionQuery = {}): Promise<Page<ExecutionRecord>> {
    const limit = query.limit ?? 50;
    const { states = [], labels = [] } = query;
    const byState = states.length > 0 ? states.map((state) => `idx:exe:${state}`) : ['idx:exe'];
    // One label's index is narrower than any state's; the rest is filtered.
    const indices = labels.length > 0 ? [`idx:lbl:${labels[0]}`] : byState;
    const ids = new Set<string>();
    let isCut = false;
    await Promise.all(
      this.keys.tags().flatMap((tag) =>
        indices.map(async (index) => {
          // One more than is listed: whether there are more must be told.
          const found = await this.redis.zrevrange(this.keys.shard(tag, index), 0, MOST_LISTED);
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
        // One that cannot be read is listed in the quarantine, and hides none of the others (R31).
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

  /** Nodes in the order of the spec. */
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
    return ids.length === limit ? { items, nextCursor: String(from + limit) } : { items };
  }

  private decodeNode(key: string, id: string, nodeId: string, text: string): NodeRecord | undefined {
    try {
      return decodeNode(key, id, nodeId, text);
    } catch (error) {
      void this.quarantine.note(error);
      return undefined;
    }
  }

  /** One node with its result, if it has one. @throws NotFoundError */
  async node(id: string, nodeId: string): Promise<NodeRecord & { result?: unknown }> {
    const key = this.keys.execution(id, 'nodes');
    const results = this.keys.execution(id, 'results');
    return this.quarantine.reading(key, async () => {
      const [text, result] = await Promise.all([
        this.redis.hget(key, nodeId),
        this.redis.hget(results, nodeId),
      ]);
      if (text === null) throw new NotFoundError('node', nodeId);
      return {
        ...decodeNode(key, id, nodeId, text),
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

  /** One that cannot be read is told as that, so that no reader of the stream is held up, nor misled (R31). */
  private decodeEvent(key: string, id: string, streamId: string, text: string): Omit<BelayEvent, 'id'> {
    try {
      return decodeEvent(key, id, text);
    } catch (error) {
      void this.quarantine.note(error);
      return { seq: 0, type: 'execution.unreadable', entity: 'execution', at: Number.parseInt(streamId, 10) };
    }
  }

  /** The oldest and the newest event id kept: a subscriber that wants others is told that events are missing. */
  async keptEventIds(id: string): Promise<{ first: string; last: string } | undefined> {
    const key = this.keys.execution(id, 'events');
    const [first, last] = await Promise.all([
      this.redis.xrange(key, '-', '+', 'COUNT', 1),
      this.redis.xrevrange(key, '+', '-', 'COUNT', 1),
    ]);
    const [[oldest] = [], [newest] = []] = [first[0], last[0]];
    return oldest === undefined || newest === undefined ? undefined : { first: oldest, last: newest };
  }
}

/** @throws BelayError INVALID_REQUEST */
function wholeCursor(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (/^\d{1,9}$/.test(cursor)) return Number(cursor);
  throw new BelayError('INVALID_REQUEST', 'The cursor is not one this list has answered.', {
    problems: [
      { path: 'cursor', code: 'PATTERN', message: 'must be what the page before answered as nextCursor.' },
    ],
  });
}

function matches(record: ExecutionRecord, query: ExecutionQuery): boolean {
  if (query.states !== undefined && query.states.length > 0 && !query.states.includes(record.state))
    return false;
  return (query.labels ?? []).every((label) => {
    const at = label.indexOf('=');
    return record.labels[label.slice(0, at)] === label.slice(at + 1);
  });
}
