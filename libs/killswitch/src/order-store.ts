import {
  BelayError,
  NotFoundError,
  ORDER_MACHINE,
  scopeKey,
  type AgentRecord,
  type Order,
  type OrderState,
  type Receipt,
  type Ring,
  type StopReport,
  type TargetOutcome,
  type TargetReceipt,
} from '#libs/contracts';
import type { ScriptReply, Valkey } from '#libs/valkey';

/** Orders kept in the log; an order still open is in its own record whatever happens to the log. */
const ORDERS_KEPT = 10_000;
const CHUNK = 500;

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

/** The orders log and the receipts. Each write is one script under the control tag. */
export class OrderStore {
  private readonly settings: string;

  constructor(
    private readonly valkey: Valkey,
    retentionMs: number,
  ) {
    this.settings = JSON.stringify({
      channel: valkey.keys.eventsChannel,
      doorbell: valkey.keys.doorbellChannel,
      controlEvents: 10_000,
      ordersKept: ORDERS_KEPT,
      retentionMs,
    });
  }

  /** Durable, then announced: the doorbell rings inside the same script. Joins an open order of the same scope. */
  async place(order: Omit<Order, 'seq' | 'placedAt'>): Promise<{ order: Order; created: boolean }> {
    const reply = await this.call('placeOrder', order.id, [JSON.stringify(order), scopeKey(order.scope)]);
    return { order: JSON.parse(reply['order'] as string) as Order, created: reply['created'] as boolean };
  }

  /** Names targets; with `resolved` the list is complete. */
  async addTargets(orderId: string, targets: readonly TargetReceipt[], resolved: boolean): Promise<void> {
    const groups = Math.max(1, Math.ceil(targets.length / CHUNK));
    for (let i = 0; i < groups; i++) {
      const pairs = targets.slice(i * CHUNK, (i + 1) * CHUNK).map((t) => [t.agentId, JSON.stringify(t)]);
      await this.call('addTargets', orderId, [JSON.stringify(pairs), resolved && i === groups - 1 ? 1 : 0]);
    }
  }

  /** Rings again with the agents the order was resolved to: what was claimed while it was given is among them. */
  async ring(order: Order, targets: readonly string[]): Promise<void> {
    for (let i = 0; i < targets.length; i += CHUNK) {
      const ring: Ring = { order, targets: targets.slice(i, i + CHUNK) };
      await this.valkey.redis.publish(this.valkey.keys.doorbellChannel, JSON.stringify(ring));
    }
  }

  async report(orderId: string, target: TargetReceipt): Promise<void> {
    await this.call('reportTarget', orderId, [target.agentId, target.outcome, JSON.stringify(target)]);
  }

  /** The receipt's limit has passed. */
  async close(orderId: string): Promise<void> {
    await this.call('closeOrder', orderId, []);
  }

  /** @throws NotFoundError */
  async receipt(orderId: string): Promise<Receipt> {
    const { redis, keys } = this.valkey;
    const [fields, rows] = await Promise.all([
      redis.hgetall(keys.order(orderId)),
      redis.hgetall(keys.orderTargets(orderId)),
    ]);
    if (fields['order'] === undefined) throw new NotFoundError('order', orderId);
    const targets = Object.values(rows)
      .map((text) => JSON.parse(text) as TargetReceipt)
      .sort((a, b) => (a.agentId < b.agentId ? -1 : 1));
    const count = (outcome: TargetOutcome): number => targets.filter((t) => t.outcome === outcome).length;
    const state = fields['state'] as OrderState;
    const at = (name: string) => (fields[name] === undefined ? {} : { [name]: Number(fields[name]) });
    return {
      orderId,
      order: JSON.parse(fields['order']) as Order,
      state,
      complete: ORDER_MACHINE.ended.includes(state),
      ...at('resolvedAt'),
      ...at('completedAt'),
      totals: {
        total: targets.length,
        killed: count('killed'),
        alreadyEnded: count('already-ended'),
        failed: count('failed'),
        unconfirmed: count('unconfirmed'),
        pending: count('pending'),
      },
      targets,
      missing: targets
        .filter((t) => t.outcome !== 'killed' && t.outcome !== 'already-ended')
        .map(({ agentId, workerId }) => ({ agentId, workerId })),
    };
  }

  /** Orders not complete yet. */
  async open(): Promise<Order[]> {
    const { redis, keys } = this.valkey;
    const ids = await redis.smembers(keys.shard(keys.control, 'orders:open'));
    return this.many(ids);
  }

  /** Newest first. */
  async list(limit = 50): Promise<Receipt[]> {
    const { redis, keys } = this.valkey;
    const ids = await redis.zrevrange(keys.shard(keys.control, 'idx:ord'), 0, limit - 1);
    const found = await Promise.all(ids.map(async (id) => this.receipt(id).catch(() => undefined)));
    return found.filter((receipt) => receipt !== undefined);
  }

  /** What the log holds after `cursor`, and the new cursor. */
  async since(cursor: string): Promise<{ orders: Order[]; cursor: string }> {
    const { redis, keys } = this.valkey;
    const rows = await redis.xrange(keys.shard(keys.control, 'orders'), `(${cursor}`, '+', 'COUNT', 1_000);
    const last = rows.at(-1);
    return {
      orders: await this.many(rows.map(([, values]) => values[1] ?? '')),
      cursor: last?.[0] ?? cursor,
    };
  }

  private async many(ids: readonly string[]): Promise<Order[]> {
    const { redis, keys } = this.valkey;
    const texts = await Promise.all(ids.map(async (id) => redis.hget(keys.order(id), 'order')));
    return texts.filter((text) => text !== null).map((text) => JSON.parse(text) as Order);
  }

  private async call(
    name: Parameters<Valkey['scripts']['json']>[0],
    id: string,
    rest: readonly (string | number)[],
  ): Promise<ScriptReply> {
    const { keys, scripts } = this.valkey;
    const reply = await scripts.json(name, keys.order(id), [keys.control, id, this.settings, ...rest]);
    if (reply.refused !== undefined) throw new NotFoundError('order', id);
    return reply;
  }
}

/** What an agent's end means for an order that covers it: only evidence makes it `killed` (R51). */
export function outcomeFor(
  agent: Pick<AgentRecord, 'state' | 'reason'> & { report?: StopReport },
): TargetOutcome {
  switch (agent.state) {
    case 'killed':
      return agent.report?.proved === true ? 'killed' : 'unconfirmed';
    case 'completed':
      return 'already-ended';
    case 'failed':
      return agent.reason === 'worker_lost' ? 'unconfirmed' : 'already-ended';
    case 'spawning':
    case 'running':
      return 'pending';
    default:
      throw new BelayError('INTERNAL', `No outcome for agent state ${String(agent.state)}.`);
  }
}
