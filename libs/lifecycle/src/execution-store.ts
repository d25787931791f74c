import {
  shardOf,
  SUSPEND_LIMITS,
  type ActedBy,
  type DispatchEntry,
  type ExecutionSpec,
  type ExecutionState,
  type Signal,
} from '#libs/contracts';
import { retryTransient, type ScriptReply } from '#libs/valkey';
import { monotonicFactory } from 'ulid';
import { ExecutionReads } from './execution-reads';
import type { AdvanceResult, RetryRequest, StopRequest } from './execution-store.types';
import { hashText } from './hash-text';
import { nodeKindsOf } from './node-kinds';
import { accepted } from './refusals';
import type { ShardScripts } from './shard-scripts';
import type { SlotStore } from './slot-store';
import { stageExecution } from './stage-execution';
import { StateRoom } from './state-room';

/** A failover takes seconds and happens once. A staging that is lost a third time has another cause. */
const MOST_STAGINGS = 3;

const ulid = monotonicFactory();
/**
 * One advance call moves this many nodes at most: about 5 ms of the server's time (docs/adr/0004 has the figures).
 */
const ADVANCE_LIMIT = 200;
/** Executions: every change is one script, every read one or two commands. */
export class ExecutionStore extends ExecutionReads {
  readonly room: StateRoom;

  constructor(scripts: ShardScripts, slots: SlotStore) {
    super(scripts, slots);
    this.room = new StateRoom(scripts.valkey, scripts.options.maxStateBytes);
  }

  /** Makes an id. With an idempotency key the shard follows from the key, so that one script can compare. */
  newId(idempotencyKey?: string): string {
    const { shards } = this.keys;
    const wanted = idempotencyKey === undefined ? undefined : shardOf(idempotencyKey, shards);
    for (;;) {
      const id = `exe_${ulid()}`;
      if (wanted === undefined || shardOf(id, shards) === wanted) return id;
    }
  }

  /** Whether an execution has that idempotency key. */
  async isKeyTaken(idempotencyKey: string): Promise<boolean> {
    const tag = this.keys.tagOf(this.newId(idempotencyKey));
    return (await this.redis.exists(this.keys.idempotency(tag, idempotencyKey))) === 1;
  }

  /**
   * Creates an execution. It is durable when this resolves (docs/architecture.md#the-life-of-an-execution).
   * `canonical` is the spec's canonical text: the same key with the same text answers with the first execution.
   * @throws ServerFullError · BelayError IDEMPOTENCY_CONFLICT · LATCHED when it should start and a latch covers it
   */
  async create(
    spec: ExecutionSpec,
    options: ActedBy & {
      readonly start: boolean;
      readonly canonical: string;
      readonly id?: string;
      /** Stored with the execution for its spans, and in no answer. */
      readonly traceparent?: string | undefined;
    },
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
      ...text('softTokens', spec.softTokens),
      ...text('maxTokens', spec.maxTokens),
      ...text('actor', options.actor),
      ...text('actorRole', options.actorRole),
      ...text('requestId', options.requestId),
      ...text('traceparent', options.traceparent),
      ...(spec.softCostUsd === undefined ? {} : { softCostMicros: microsOf(spec.softCostUsd) }),
      ...(spec.maxCostUsd === undefined ? {} : { maxCostMicros: microsOf(spec.maxCostUsd) }),
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
    // A graph may be tens of megabytes. A caller that a latch refuses asks again and again; this look spares it the
    // sending.
    const admission = await this.scripts.json('admitExecution', id, args);
    if (admission['admitted'] !== true) return accepted(admission, 'execution', id);
    const key = this.keys.execution(id);
    await this.room.assertRoom(key);
    // Repeatable: staging over a staged execution gives the same keys.
    const stage = async (): Promise<void> =>
      this.room.guarding(key, async () => stageExecution(this.scripts.valkey, id, spec));
    let stagings = 0;
    let reply: ScriptReply;
    do {
      await retryTransient(stage);
      reply = await this.scripts.json('commitExecution', id, args);
      // A failover since the staging may have lost part of it.
    } while (reply.refused === 'STAGING_LOST' && ++stagings < MOST_STAGINGS);
    return accepted(reply, 'execution', id);
  }

  async start(id: string): Promise<{ state: ExecutionState }> {
    return accepted(await this.scripts.json('startExecution', id), 'execution', id);
  }

  /**
   * running → paused. Repeatable. A paused execution can still be frozen. `heldBy`: the latch that pauses, if it is
   * still engaged. `mark`: for `freezeOrdered`.
   */
  async pause(
    id: string,
    request: { mode: 'drain' | 'freeze'; actor: string; note?: string; heldBy?: string },
  ): Promise<{ state: ExecutionState; mark?: string }> {
    const { mode, actor, note = '', heldBy = '' } = request;
    const reply = await this.scripts.json('pauseExecution', id, [mode, actor, note, heldBy]);
    return accepted(reply, 'execution', id);
  }

  /**
   * Stores that the log has the order that freezes the execution's processes, or that none is needed any more. `mark`
   * is that of the pause, which was read before the order was placed: the mark of a later pause stays.
   */
  async freezeOrdered(id: string, mark: string): Promise<void> {
    await this.scripts.json('holdOrdered', id, ['freezing', mark]);
  }

  /** Stores that the log has the order that thaws the execution's processes. `mark` is that of the resume. */
  async thawOrdered(id: string, mark: string): Promise<void> {
    await this.scripts.json('holdOrdered', id, ['thawing', mark]);
  }

  /**
   * Called before an order thaws the execution's own freeze, with a new id: until `thawLooked` with the same id a sweep looks
   * whether the execution was frozen again meanwhile, even if this process dies.
   */
  async thawBegins(id: string, thawId: string): Promise<void> {
    await this.scripts.json('watchThaw', id, [thawId, 'begins', 0]);
  }

  /** Somebody has looked. A thaw that began less than `minAgeMs` ago stays: it may still be placed. Milliseconds. */
  async thawLooked(id: string, thawId: string, minAgeMs = 0): Promise<void> {
    await this.scripts.json('watchThaw', id, [thawId, 'looked', minAgeMs]);
  }

  /**
   * paused → running. `wasFrozen`: the agents stay frozen until an order thaws them. `released`: resumes only a pause
   * by that latch, and not while another freeze covers the execution. `mark`: for `thawOrdered`.
   * @throws BelayError LATCHED, for a person's resume
   */
  async resume(
    id: string,
    actor: string,
    released = '',
  ): Promise<{ state: ExecutionState; wasFrozen: boolean; mark?: string }> {
    return accepted(await this.scripts.json('resumeExecution', id, [actor, released]), 'execution', id);
  }

  /**
   * stopped | failed → running with the next epoch. Completed nodes keep their results; the others begin again. The
   * same `retryId` repeats the same retry.
   * @throws BelayError NOT_PROVED while an attempt of the execution may still run · BUDGET_SPENT by a budget that is
   *   used up · LATCHED
   */
  async retry(
    id: string,
    { retryId, actor, force, maxCostUsd, maxTokens }: RetryRequest,
  ): Promise<{ state: ExecutionState; epoch: number }> {
    const budget = maxCostUsd === undefined ? '' : microsOf(maxCostUsd);
    const args = [retryId, actor, force ? 1 : 0, budget, maxTokens ?? ''];
    return accepted(await this.scripts.json('retryExecution', id, args), 'execution', id);
  }

  /** From here on no agent of the execution starts. Of several stops the first reason wins. */
  async stop(
    id: string,
    request: StopRequest,
  ): Promise<{ state: ExecutionState; already: boolean; live: number; orderId?: string; spared?: boolean }> {
    return accepted(await this.scripts.json('stopExecution', id, [JSON.stringify(request)]), 'execution', id);
  }

  /**
   * Wakes the nodes that wait for that signal, or keeps it for the first node that will wait. `requestId` makes the
   * call repeatable.
   * @throws BelayError NOT_FOUND · INVALID_TRANSITION · TOO_MANY_SIGNALS
   */
  async signal(
    id: string,
    { name, payload, requestId, by }: Signal & { readonly requestId: string; readonly by: string },
  ): Promise<Woken> {
    const args = [name, JSON.stringify(payload), requestId, by, SUSPEND_LIMITS.signals];
    const reply = accepted<Woken>(await this.scripts.json('signalExecution', id, args), 'execution', id);
    return { ...reply, entries: listOf(reply.entries), woken: listOf(reply.woken) };
  }

  /** Fails a node whose signal did not come in time, with all that follows from the failure. Repeatable. */
  async expireSuspended(id: string, nodeId: string): Promise<Expired> {
    const reply = accepted<Expired>(
      await this.scripts.json('expireSuspended', id, [nodeId, ADVANCE_LIMIT]),
      'execution',
      id,
    );
    return { ...reply, entries: listOf(reply.entries) };
  }

  /** One bounded step of the work that is left in an execution. The caller repeats it while `more` is true. */
  async advance(id: string, limit = ADVANCE_LIMIT): Promise<AdvanceResult> {
    const reply = accepted<AdvanceResult>(
      await this.scripts.json('advanceExecution', id, [limit]),
      'execution',
      id,
    );
    // cjson encodes an empty Lua table as an object, not as a list.
    const { entries, dropped } = reply;
    return {
      ...reply,
      entries: Array.isArray(entries) ? entries : [],
      dropped: Array.isArray(dropped) ? dropped : [],
    };
  }

  /** Compare-and-set on state, epoch and version, with no other effect (ADR 0008). */
  async transition(
    id: string,
    to: ExecutionState,
    expect: { from?: ExecutionState; epoch?: number; version?: number; set?: Record<string, string> } = {},
  ): Promise<{ state: ExecutionState; version: number }> {
    const reply = await this.scripts.json('transitionExecution', id, [to, JSON.stringify(expect)]);
    return accepted(reply, 'execution', id);
  }
}

/** The effects of a signal. */
interface Woken {
  readonly woken: readonly string[];
  readonly kept: boolean;
  readonly entries: readonly DispatchEntry[];
}

/** The effects of an expired wait for a signal. */
interface Expired {
  readonly entries: readonly DispatchEntry[];
  readonly more: boolean;
  readonly stopNeeded: boolean;
}

/** cjson encodes an empty Lua table as an object, not as a list. */
const listOf = <T>(list: readonly T[]): readonly T[] => (Array.isArray(list) ? list : []);

/** US dollars as the records keep them: whole micro-dollars. */
function microsOf(usd: number): string {
  return String(Math.round(usd * 1e6));
}
