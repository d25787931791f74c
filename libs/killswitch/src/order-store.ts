import {
  CONFIRMED_OUTCOMES,
  isOrderId,
  isWide,
  MAX_LATCHES,
  NotFoundError,
  ORDER_MACHINE,
  orderProblem,
  parseAgentId,
  scopeKey,
  type AgentRecord,
  type Grade,
  type LatchSet,
  type Order,
  type OrderState,
  type Reach,
  type Receipt,
  type ScopeWarning,
  type TargetOutcome,
  type TargetReceipt,
} from '#libs/contracts';
import { corrupt, parseStored, Recent, type ScriptReply, type Valkey } from '#libs/valkey';
import type { ControlSettings } from './control-settings';
import { countedAs, gradeOfAll, withGrade } from './target-outcome';
import { latchOf, tooMany, type LatchStore, type NewLatch } from './latch-store';

const CHUNK = 500;
/** Own targets that a worker looks at with one heartbeat. */
const MOST_OWN = 500;
/** A kill must not fail because somebody engaged latches up to their bound. */
const MAX_LATCHES_OF_ORDERS = 5 * MAX_LATCHES;
/** Targets one script writes: some 5 ms of the server's time. */
const REPORTS_AT_ONCE = 100;

/** A target as an agent's record shows it. */
export function targetOf(agent: AgentRecord, outcome: TargetOutcome, detail?: string): TargetReceipt {
  return {
    agentId: agent.id,
    executionId: agent.executionId,
    nodeId: agent.nodeId,
    workerId: agent.owner,
    outcome,
    ...(detail === undefined ? {} : { detail }),
    ...(agent.report === undefined ? {} : { report: agent.report }),
  };
}

/** An order as its giver hands it in; with `seq` and `placedAt` it was placed before. */
type AskedOrder = Omit<Order, 'seq' | 'placedAt'>;

interface KeptOrder {
  readonly order: Order;
  /** By this process, which then carries it out again too. */
  readonly given: boolean;
}

/** An order as the store has it. */
export interface HeldOrder {
  readonly order: Order;
  /** The starts it reaches, by their counts; undefined: all so far, since its targets are not all named yet. */
  readonly reach: Reach | undefined;
}

export interface PlacedOrder {
  readonly order: Order;
  /** The kill is placed and its latch is not: the list of latches is corrupt. */
  readonly latchLost: boolean;
  readonly created: boolean;
  /** Resolves within some 150 ms and never rejects; see Receipt.replicated. */
  readonly replicated: Promise<boolean | undefined>;
}

/** The orders log and the receipts. Each write is one script under the control tag. */
export class OrderStore {
  /** Reports of this turn of the event loop, by order. */
  private readonly reports = new Map<string, { targets: TargetReceipt[]; sent: Promise<void> }>();

  private readonly kept: Recent<KeptOrder>;

  constructor(
    private readonly valkey: Valkey,
    private readonly settings: ControlSettings,
    private readonly latches: LatchStore,
    private readonly proof: Grade = 'marks',
  ) {
    this.kept = new Recent(settings.recentMs);
  }

  /**
   * Durable, then announced: the doorbell rings inside the same script. With a latch it rings once every shard holds
   * the latch. Joins an open order of the same kind for the same execution or agent. @throws BelayError TOO_MANY_LATCHES
   */
  async place(asked: AskedOrder, latch?: NewLatch): Promise<PlacedOrder> {
    const joins = isWide(asked.scope) ? '' : `${asked.kind}:${scopeKey(asked.scope)}`;
    const placed = await this.store(asked, latch, joins);
    this.kept.add(placed.order.id, { order: placed.order, given: true });
    return placed;
  }

  private async store(asked: AskedOrder, latch: NewLatch | undefined, joins: string): Promise<PlacedOrder> {
    const reply = await this.call('placeOrder', asked.id, [
      JSON.stringify(asked),
      joins,
      latch === undefined ? '' : JSON.stringify(latch),
      MAX_LATCHES_OF_ORDERS,
    ]);
    const { replication, keys } = this.valkey;
    const mark = replication.mark(keys.order(asked.id));
    if (reply.refused === 'TOO_MANY_LATCHES') throw tooMany(MAX_LATCHES_OF_ORDERS);
    const order = JSON.parse(reply['order'] as string) as Order;
    if (typeof reply['latches'] === 'string') {
      await this.latches.copy(JSON.parse(reply['latches']) as LatchSet, { free: false });
      await this.publish({ order });
    }
    const replicated = replication
      .reached(mark)
      .then(async (reached) => this.noteReplicated(order.id, reached));
    const latchLost = reply['latchLost'] === true;
    return { order, created: reply['created'] as boolean, latchLost, replicated };
  }

  private async noteReplicated(orderId: string, reached: boolean | undefined): Promise<boolean | undefined> {
    if (reached !== undefined)
      await this.call('noteReplicated', orderId, [reached ? 1 : 0]).catch(() => undefined);
    return reached;
  }

  /** The reach is kept with the order: when it is stored again after a failover, it reaches no more. */
  keepReach(order: Order, reach: Reach): void {
    const kept = this.kept.get(order.id);
    if (kept !== undefined && kept.order.reach === undefined)
      this.kept.add(order.id, { ...kept, order: { ...kept.order, reach } });
  }

  /** Keeps an order that another process gave, so that it can be stored again. */
  keep(order: Order): void {
    if (!this.kept.has(order.id)) this.kept.add(order.id, { order, given: false });
  }

  /**
   * Stores an order of the last minute again if the server has lost it, with the time it was first placed at: it reaches
   * nothing that began later. Resolves with it when it is known here. Repeatable.
   */
  async again(orderId: string): Promise<Order | undefined> {
    const kept = this.kept.get(orderId);
    if (kept === undefined) return undefined;
    const { order } = await this.store(kept.order, latchOf(kept.order), '');
    return order;
  }

  /** After a failover: every order this process knows of the last minute. Resolves with those it gave itself. */
  async recall(): Promise<Order[]> {
    const kept = this.kept.list();
    for (const { order } of kept) await this.again(order.id);
    return kept.filter(({ given }) => given).map(({ order }) => order);
  }

  /**
   * Names targets; with `resolved` the list is complete, and so is the one of the executions it stopped. False: the order
   * is over and takes no more.
   */
  async addTargets(
    orderId: string,
    targets: readonly TargetReceipt[],
    resolved:
      | boolean
      | { readonly reach: Reach; readonly stopped: readonly string[]; readonly warning?: ScopeWarning },
    longestGraceMs = 0,
  ): Promise<boolean> {
    const { reach, stopped = [], warning } = typeof resolved === 'boolean' ? {} : resolved;
    for (let i = 0; i < stopped.length; i += CHUNK)
      await this.call('addTargets', orderId, [
        '[]',
        0,
        0,
        JSON.stringify(stopped.slice(i, i + CHUNK)),
        '',
        '',
      ]);
    let taken = true;
    const groups = Math.max(1, Math.ceil(targets.length / CHUNK));
    for (let i = 0; i < groups; i++) {
      const pairs = targets
        .slice(i * CHUNK, (i + 1) * CHUNK)
        .map((t) => [t.agentId, JSON.stringify(t), t.outcome === 'pending' ? t.workerId : '']);
      const last = resolved !== false && i === groups - 1;
      const reply = await this.call('addTargets', orderId, [
        JSON.stringify(pairs),
        last ? 1 : 0,
        longestGraceMs,
        '[]',
        last && reach !== undefined ? JSON.stringify(reach) : '',
        last && warning !== undefined ? JSON.stringify(warning) : '',
      ]);
      taken = reply['taken'] === true;
    }
    return taken;
  }

  /** Rings again with the agents the order was resolved to: what was claimed while it was given is among them. */
  async ring(order: Order, targets: readonly string[]): Promise<void> {
    for (let i = 0; i < targets.length; i += CHUNK) {
      await this.publish({ order, targets: targets.slice(i, i + CHUNK) });
    }
  }

  private async publish(ring: {
    readonly order: Order;
    readonly targets?: readonly string[];
  }): Promise<void> {
    await this.valkey.redis.publish(this.valkey.keys.doorbellChannel, JSON.stringify(ring));
  }

  /**
   * Stores a target's outcome. Reports of one turn of the event loop go in one script: when a thousand agents end at
   * once, that is a few calls. @throws NotFoundError
   */
  async report(orderId: string, target: TargetReceipt): Promise<void> {
    let batch = this.reports.get(orderId);
    if (batch === undefined) {
      const targets: TargetReceipt[] = [];
      this.reports.set(orderId, (batch = { targets, sent: this.sendReports(orderId, targets) }));
    }
    batch.targets.push(this.counted(target));
    await batch.sent;
  }

  /** The report as it counts: a proof below the grade that is asked for is none. */
  counted(target: TargetReceipt): TargetReceipt {
    return countedAs(target, this.proof);
  }

  private async sendReports(orderId: string, targets: readonly TargetReceipt[]): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.reports.delete(orderId);
    for (let i = 0; i < targets.length; i += REPORTS_AT_ONCE)
      await this.call(
        'reportTargets',
        orderId,
        targets
          .slice(i, i + REPORTS_AT_ONCE)
          .flatMap((one) => [one.agentId, one.outcome, JSON.stringify(one)]),
      );
  }

  /** The receipt's limit has passed. */
  async expire(orderId: string): Promise<void> {
    await this.call('expireOrder', orderId, []);
  }

  /** A person says that what is missing will not be confirmed: it is tried no longer. @throws NotFoundError */
  async close(orderId: string, by: string, note: string): Promise<void> {
    await this.call('closeOrder', orderId, [by, note]);
  }

  /** @throws NotFoundError */
  async state(orderId: string): Promise<OrderState> {
    const state = await this.valkey.redis.hget(this.valkey.keys.order(orderId), 'state');
    if (state === null) throw new NotFoundError('order', orderId);
    return state as OrderState;
  }

  /** Some of what a worker has yet to do for orders, by order: its own targets, and nothing of the others'. */
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

  /** Targets of an order that is gone: retention took it, or a failover lost it. */
  async dropOwnTargets(workerId: string, orderId: string, agentIds: readonly string[]): Promise<void> {
    const members = agentIds.map((agentId) => `${orderId} ${agentId}`);
    await this.valkey.redis.srem(this.valkey.keys.ownTargets(workerId), ...members);
  }

  /** The states of those orders, in one call; undefined where there is no record. */
  async states(orderIds: readonly string[]): Promise<(OrderState | undefined)[]> {
    const { keys, scripts } = this.valkey;
    const args = [keys.control, ...orderIds];
    const found = (await scripts.run('orderStates', keys.shard(keys.control, 'orders'), args)) as string[];
    return found.map((state) => (state === '' ? undefined : (state as OrderState)));
  }

  /** How far an order has come, without its targets. @throws NotFoundError */
  async progress(orderId: string): Promise<{ readonly state: OrderState; readonly isResolved: boolean }> {
    const { redis, keys } = this.valkey;
    const [state, resolvedAt] = await redis.hmget(keys.order(orderId), 'state', 'resolvedAt');
    if (typeof state !== 'string') throw new NotFoundError('order', orderId);
    return { state: state as OrderState, isResolved: typeof resolvedAt === 'string' };
  }

  /** The longest grace that a named target has by its spec. Milliseconds. */
  async longestGrace(orderId: string): Promise<number> {
    return Number(await this.valkey.redis.hget(this.valkey.keys.order(orderId), 'longestGraceMs'));
  }

  /** The targets that are not confirmed: what there is to repair. A complete receipt costs nothing, however long it is. */
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
        redis.smembers(`${key}:stopped`),
      ]),
    );
    if (fields['order'] === undefined) throw new NotFoundError('order', orderId);
    const targets = Object.entries(rows)
      .map(([agentId, text]) => this.target(keys.orderTargets(orderId), agentId, text))
      .sort((a, b) => (a.agentId < b.agentId ? -1 : 1));
    const count = (outcome: TargetOutcome): number => targets.filter((t) => t.outcome === outcome).length;
    const state = fields['state'] as OrderState;
    const at = (name: string) => (fields[name] === undefined ? {} : { [name]: Number(fields[name]) });
    const order = await quarantine.reading(key, async () =>
      readOrder(key, orderId, fields['order'] as string),
    );
    const { latchId } = order;
    const latch = latchId && (await this.latches.get(latchId).catch(() => undefined));
    const { closedAt, closedBy, closeNote, digest, replicated, warning } = fields;
    return {
      orderId,
      order,
      state,
      complete: ORDER_MACHINE.ended.includes(state),
      ...at('resolvedAt'),
      ...at('completedAt'),
      ...(replicated === undefined ? {} : { replicated: replicated === '1' }),
      ...(executions.length === 0 ? {} : { executions: executions.sort() }),
      ...(warning === undefined ? {} : { warning: parseStored<ScopeWarning>(key, warning, 'warning') }),
      ...(latch === undefined || latch === '' ? {} : { latch }),
      ...(closedAt === undefined
        ? {}
        : { closed: { at: Number(closedAt), by: closedBy ?? '', note: closeNote ?? '' } }),
      ...(digest === undefined ? {} : { digest }),
      totals: {
        total: targets.length,
        killed: count('killed'),
        frozen: count('frozen'),
        thawed: count('thawed'),
        alreadyEnded: count('already-ended'),
        failed: count('failed'),
        unconfirmed: count('unconfirmed'),
        pending: count('pending'),
      },
      targets,
      ...gradeOfAll(targets),
      missing: targets
        .filter((t) => !CONFIRMED_OUTCOMES.includes(t.outcome))
        .map(({ agentId, workerId }) => ({ agentId, workerId })),
    };
  }

  /** One that cannot be read is not left out: nothing says that it was confirmed (R31, R51). */
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

  /** The stored reach of an order; undefined: its targets are not all named yet, or the order is gone. */
  async reach(orderId: string): Promise<Reach | undefined> {
    return (await this.readable(orderId))?.reach;
  }

  /** Orders not complete yet. */
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

  /** Newest first. */
  async list(limit = 50): Promise<Receipt[]> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.shard(keys.control, 'idx:ord');
    const ids = (await quarantine.readable(key, async () => redis.zrevrange(key, 0, limit - 1))) ?? [];
    const found = await Promise.all(ids.map(async (id) => this.receipt(id).catch(() => undefined)));
    return found.filter((receipt) => receipt !== undefined);
  }

  /** The log's entries after `cursor`, oldest first; without the order where it is gone or cannot be read. */
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
   * An order by its id, as the store has it, with those of `agentIds` that are its targets. Undefined: there is none,
   * or it cannot be read. One round trip: it is on the way of every kill.
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

  /** Undefined: there is none, or it cannot be read. */
  async get(orderId: string): Promise<Order | undefined> {
    return (await this.readable(orderId))?.order;
  }

  /** One order that cannot be read must not keep a worker, or a sweep, from all the others (R31). */
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

  private async call(
    name: Parameters<Valkey['scripts']['json']>[0],
    id: string,
    rest: readonly (string | number)[],
  ): Promise<ScriptReply> {
    const { keys, scripts } = this.valkey;
    const reply = await scripts.json(name, keys.order(id), [keys.control, id, this.settings.text, ...rest]);
    if (reply.refused === 'NOT_FOUND') throw new NotFoundError('order', id);
    return reply;
  }
}

/** @throws BelayError CORRUPT_RECORD for a text that is no order, though it may be JSON */
function readOrder(key: string, id: string, text: string): Order {
  const order = parseStored<unknown>(key, text, 'order');
  const problem = orderProblem(id, order);
  if (problem !== undefined) throw corrupt({ key, field: 'order', problem, text });
  return order as Order;
}
