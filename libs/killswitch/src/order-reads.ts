import {
  isOrderId,
  NotFoundError,
  UnknownCursorError,
  orderProblem,
  parseAgentId,
  type Order,
  type OrderState,
  type Reach,
  type Receipt,
  type TargetReceipt,
  type Page,
} from '#libs/contracts';
import { corrupt, isCorrupt, parseStored, type Valkey } from '#libs/valkey';
import type { LatchStore } from './latch-store';
import { receiptOf } from './order-receipt';
import { withGrade } from './target-outcome';

const CHUNK = 500;
/** With one heartbeat a worker looks at this many of its targets. */
const MOST_OWN = 500;
/** Receipts of a page, unless the caller says otherwise. */
const LISTED = 50;

/** An order as stored. */
export interface HeldOrder {
  readonly order: Order;
  /** The starts that the order reaches, by their counts. Undefined: all so far, since its targets are not all named yet. */
  readonly reach: Reach | undefined;
}

export interface OrderQuery {
  readonly unproved?: boolean;
  readonly cursor?: string;
  /** Default 50. */
  readonly limit?: number;
}

/** Reads orders, their targets and their receipts. Writes nothing. */
export class OrderReads {
  constructor(
    protected readonly valkey: Valkey,
    protected readonly latches: LatchStore,
  ) {}

  /** @throws NotFoundError */
  async state(orderId: string): Promise<OrderState> {
    const state = await this.valkey.redis.hget(this.valkey.keys.order(orderId), 'state');
    if (state === null) throw new NotFoundError('order', orderId);
    return state as OrderState;
  }

  /** The state; undefined when the order does not exist, or no longer. */
  async stateIfKnown(orderId: string): Promise<OrderState | undefined> {
    return this.state(orderId).catch((error: unknown) => {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    });
  }

  /** The targets on this worker that it has not dealt with yet, by order: some of them, and no targets of other workers. */
  async ownTargets(workerId: string): Promise<Map<string, string[]>> {
    const { redis, keys } = this.valkey;
    const found = await redis.srandmember(keys.ownTargets(workerId), MOST_OWN);
    const byOrder = new Map<string, string[]>();
    for (const member of found) {
      const [orderId = '', agentId = ''] = member.split(' ');
      byOrder.set(orderId, [...(byOrder.get(orderId) ?? []), agentId]);
    }
    return byOrder;
  }

  /** The states of those orders, in one call; undefined where there is no record. */
  async states(orderIds: readonly string[]): Promise<(OrderState | undefined)[]> {
    const { keys, scripts } = this.valkey;
    const args = [keys.control, ...orderIds];
    const found = (await scripts.run('orderStates', keys.shard(keys.control, 'orders'), args)) as string[];
    return found.map((state) => (state === '' ? undefined : (state as OrderState)));
  }

  /** The progress of an order, without its targets. @throws NotFoundError */
  async progress(orderId: string): Promise<{ readonly state: OrderState; readonly isResolved: boolean }> {
    const { redis, keys } = this.valkey;
    const [state, resolvedAt] = await redis.hmget(keys.order(orderId), 'state', 'resolvedAt');
    if (typeof state !== 'string') throw new NotFoundError('order', orderId);
    return { state: state as OrderState, isResolved: typeof resolvedAt === 'string' };
  }

  /** The longest grace that the spec of a named target has. Milliseconds. */
  async longestGrace(orderId: string): Promise<number> {
    return Number(await this.valkey.redis.hget(this.valkey.keys.order(orderId), 'longestGraceMs'));
  }

  /**
   * The targets that are not confirmed: those that a repair looks at. For a complete receipt it costs nothing, however long the
   * receipt is.
   */
  async unconfirmed(orderId: string): Promise<TargetReceipt[]> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.orderTargets(orderId);
    const ids = await redis.smembers(keys.orderMissing(orderId));
    const found: TargetReceipt[] = [];
    for (let i = 0; i < ids.length; i += CHUNK) {
      const chunk = ids.slice(i, i + CHUNK);
      const texts = await quarantine.reading(key, async () => redis.hmget(key, ...chunk));
      for (const [at, text] of texts.entries())
        if (text !== null) found.push(this.target(key, chunk[at] as string, text));
    }
    return found;
  }

  /** @throws NotFoundError */
  async receipt(orderId: string): Promise<Receipt> {
    if (!isOrderId(orderId)) throw new NotFoundError('order', orderId);
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.order(orderId);
    const [fields, rows, executions] = await quarantine.reading(key, async () =>
      Promise.all([
        redis.hgetall(key),
        redis.hgetall(keys.orderTargets(orderId)),
        redis.smembers(keys.orderStopped(orderId)),
      ]),
    );
    const text = fields['order'];
    if (text === undefined) throw new NotFoundError('order', orderId);
    const targets = Object.entries(rows)
      .map(([agentId, row]) => this.target(keys.orderTargets(orderId), agentId, row))
      .sort((a, b) => (a.agentId < b.agentId ? -1 : 1));
    const order = await quarantine.reading(key, async () => readOrder(key, orderId, text));
    const { latchId } = order;
    const latch = latchId && (await this.latches.get(latchId).catch(() => undefined));
    return receiptOf({ key, order, fields, targets, executions, latch: latch === '' ? undefined : latch });
  }

  /**
   * A target that cannot be read is listed as unconfirmed: nothing says that it was confirmed
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  private target(key: string, agentId: string, text: string): TargetReceipt {
    try {
      return withGrade(parseStored<TargetReceipt>(key, text, agentId));
    } catch (error) {
      void this.valkey.quarantine.note(error);
      const { executionId = '' } = parseAgentId(agentId) ?? {};
      const detail = 'its entry in the receipt cannot be read';
      return { agentId, executionId, nodeId: '', workerId: '', outcome: 'unconfirmed', detail };
    }
  }

  /** The stored reach of an order. Undefined: its targets are not all named yet, or the order is gone. */
  async reach(orderId: string): Promise<Reach | undefined> {
    return (await this.readable(orderId))?.reach;
  }

  /** Orders that are not complete yet. */
  async open(): Promise<Order[]> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.shard(keys.control, 'orders:open');
    const ids = (await quarantine.readable(key, async () => redis.smembers(key))) ?? [];
    const held = await quarantine.held(keys.control);
    const found = await Promise.all(
      ids
        .filter((id) => !held.record(keys.order(id)) && !held.record(keys.order(id), 'order'))
        .map(async (id) => this.readable(id)),
    );
    return found.flatMap((one) => (one === undefined ? [] : [one.order]));
  }

  /**
   * Orders, newest first. `unproved`: only those that are neither complete nor closed by a person, however old. The cursor is
   * the id of the last order of the page before. An order that cannot be read is left out, and is in the quarantine.
   */
  async list(query: OrderQuery = {}): Promise<Page<Receipt>> {
    const { limit = LISTED, unproved = false } = query;
    // One more than the page contains tells whether there is another.
    const ids = unproved ? await this.unprovedIds(query, limit + 1) : await this.recentIds(query, limit + 1);
    const listed = ids.slice(0, limit);
    const found = await Promise.all(listed.map(async (id) => this.receipt(id).catch(unlessUnreadable)));
    const items = found.filter((receipt) => receipt !== undefined);
    const last = listed.at(-1);
    return ids.length > limit && last !== undefined ? { items, nextCursor: last } : { items };
  }

  private async recentIds({ cursor }: OrderQuery, most: number): Promise<string[]> {
    const { redis, keys, quarantine } = this.valkey;
    if (cursor !== undefined && !isOrderId(cursor)) throw new UnknownCursorError();
    const key = keys.shard(keys.control, 'idx:ord');
    const ids = await quarantine.readable(key, async () => {
      const rank = cursor === undefined ? -1 : await redis.zrevrank(key, cursor);
      // The order of the cursor has left the index, and all older ones with it.
      if (rank === null) return [];
      return redis.zrevrange(key, rank + 1, rank + most);
    });
    return ids ?? [];
  }

  private async unprovedIds({ cursor }: OrderQuery, most: number): Promise<string[]> {
    const { redis, keys, quarantine } = this.valkey;
    if (cursor !== undefined && !isOrderId(cursor)) throw new UnknownCursorError();
    const key = keys.shard(keys.control, 'orders:open');
    const ids = (await quarantine.readable(key, async () => redis.smembers(key))) ?? [];
    // Ids begin with the time of their making.
    const older = ids.filter((id) => cursor === undefined || id < cursor);
    return older.sort().toReversed().slice(0, most);
  }

  /** The log's entries after `cursor`, oldest first. An entry has no order where the order is gone or cannot be read. */
  async since(cursor: string): Promise<{ seq: string; held: HeldOrder | undefined }[]> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.shard(keys.control, 'orders');
    const rows = await quarantine.readable(key, async () =>
      redis.xrange(key, `(${cursor}`, '+', 'COUNT', 1_000),
    );
    return Promise.all(
      (rows ?? []).map(async ([seq, values]) => ({ seq, held: await this.readable(values[1] ?? '') })),
    );
  }

  /**
   * An order by its id, as stored, with those of `agentIds` that are its targets. Undefined: it does not exist, or cannot be
   * read. One round trip, since every kill waits for it.
   */
  async ringOf(
    orderId: string,
    agentIds: readonly string[],
  ): Promise<(HeldOrder & { readonly targets: readonly string[] }) | undefined> {
    const { redis, keys } = this.valkey;
    const [held, named] = await Promise.all([
      this.readable(orderId),
      agentIds.length === 0 ? [] : redis.hmget(keys.orderTargets(orderId), ...agentIds),
    ]);
    return held && { ...held, targets: agentIds.filter((_, i) => typeof named[i] === 'string') };
  }

  /** An order; undefined: it does not exist, or cannot be read. */
  async get(orderId: string): Promise<Order | undefined> {
    return (await this.readable(orderId))?.order;
  }

  /**
   * One order that cannot be read must not keep a worker, or a sweep, from all others
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  private async readable(id: string): Promise<HeldOrder | undefined> {
    const { redis, keys, quarantine } = this.valkey;
    if (!isOrderId(id)) return undefined;
    const key = keys.order(id);
    return quarantine.readable(key, async () => {
      const [text, resolvedAt, reach] = await redis.hmget(key, 'order', 'resolvedAt', 'reach');
      if (typeof text !== 'string') return undefined;
      const order = readOrder(key, id, text);
      if (order.reach !== undefined) return { order, reach: order.reach };
      const isResolved = typeof resolvedAt === 'string';
      return { order, reach: isResolved ? parseStored<Reach>(key, reach ?? '{}', 'reach') : undefined };
    });
  }
}

/** An order that is gone, or that cannot be read, hides no other. */
function unlessUnreadable(error: unknown): undefined {
  if (error instanceof NotFoundError || isCorrupt(error)) return undefined;
  throw error;
}

/** @throws BelayError CORRUPT_RECORD for a text that is no order, even if it is JSON */
function readOrder(key: string, id: string, text: string): Order {
  const order = parseStored<unknown>(key, text, 'order');
  const problem = orderProblem(id, order);
  if (problem !== undefined) throw corrupt({ key, field: 'order', problem, text });
  return order as Order;
}
