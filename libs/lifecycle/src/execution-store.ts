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

/** A failover takes seconds and comes once; what is lost a third time has another cause. */
const MOST_STAGINGS = 3;

const ulid = monotonicFactory();
/** Nodes moved by one advance call: some 5 ms of the server's time (docs/adr/0004 has the figures). */
const ADVANCE_LIMIT = 200;
/** Executions: every change one script, every read one or two commands. */
export class ExecutionStore extends ExecutionReads {
  readonly room: StateRoom;

  constructor(scripts: ShardScripts, slots: SlotStore) {
    super(scripts, slots);
    this.room = new StateRoom(scripts.valkey, scripts.options.maxStateBytes);
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

  /** Whether an execution has that idempotency key. */
  async isKeyTaken(idempotencyKey: string): Promise<boolean> {
    const tag = this.keys.tagOf(this.newId(idempotencyKey));
    return (await this.redis.exists(this.keys.shard(tag, `idem:${idempotencyKey}`))) === 1;
  }

  /**
   * Makes an execution exist; durable when this resolves (requirement R25). `canonical` is the spec's canonical text: the same
   * key with the same text answers the first execution (requirement R30).
   * @throws ServerFullError · BelayError IDEMPOTENCY_CONFLICT · LATCHED when it should start and a latch covers it
   */
  async create(
    spec: ExecutionSpec,
    options: ActedBy & { readonly start: boolean; readonly canonical: string; readonly id?: string },
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
      ...text('actorRole', options.actorRole),
      ...text('requestId', options.requestId),
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
      await retryTransient(stage);
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
   * makes it repeatable. @throws BelayError NOT_PROVED while an attempt of it may still run · BUDGET_SPENT by a budget that is used
   * up · LATCHED
   */
  async retry(
    id: string,
    { retryId, actor, force, maxCostUsd }: RetryRequest,
  ): Promise<{ state: ExecutionState; epoch: number }> {
    const budget = maxCostUsd === undefined ? '' : microsOf(maxCostUsd);
    const args = [retryId, actor, force ? 1 : 0, budget];
    return accepted(await this.scripts.json('retryExecution', id, args), 'execution', id);
  }

  /** No agent of it starts from here on; the first reason wins (requirement R20). */
  async stop(
    id: string,
    request: StopRequest,
  ): Promise<{ state: ExecutionState; already: boolean; live: number; orderId?: string; spared?: boolean }> {
    return accepted(await this.scripts.json('stopExecution', id, [JSON.stringify(request)]), 'execution', id);
  }

  /**
   * Wakes the nodes that wait for that signal, or keeps it for the first that will. `requestId` makes it repeatable.
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

  /** Fails a node that waited too long for its signal, and what follows from that. Repeatable. */
  async expireSuspended(id: string, nodeId: string): Promise<Expired> {
    const reply = accepted<Expired>(
      await this.scripts.json('expireSuspended', id, [nodeId, ADVANCE_LIMIT]),
      'execution',
      id,
    );
    return { ...reply, entries: listOf(reply.entries) };
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

  /** The bare compare-and-set on state, epoch and version (requirement R3). */
  async transition(
    id: string,
    to: ExecutionState,
    expect: { from?: ExecutionState; epoch?: number; version?: number; set?: Record<string, string> } = {},
  ): Promise<{ state: ExecutionState; version: number }> {
    const reply = await this.scripts.json('transitionExecution', id, [to, JSON.stringify(expect)]);
    return accepted(reply, 'execution', id);
  }
}

/** What follows from a signal. */
interface Woken {
  readonly woken: readonly string[];
  readonly kept: boolean;
  readonly entries: readonly DispatchEntry[];
}

/** What follows from a wait that was too long. */
interface Expired {
  readonly entries: readonly DispatchEntry[];
  readonly more: boolean;
  readonly stopNeeded: boolean;
}

/** An empty Lua table is an object, not a list. */
const listOf = <T>(list: readonly T[]): readonly T[] => (Array.isArray(list) ? list : []);

/** US dollars as the records keep them. */
function microsOf(usd: number): string {
  return String(Math.round(usd * 1e6));
}
