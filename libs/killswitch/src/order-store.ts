import {
  isWide,
  MAX_LATCHES,
  NotFoundError,
  roleOf,
  scopeKey,
  type Grade,
  type LatchSet,
  type Order,
  type Reach,
  type ScopeWarning,
  type SignedWith,
  type TargetReceipt,
} from '#libs/contracts';
import { ExpiringMap, type ScriptReply, type Valkey } from '#libs/valkey';
import type { ControlSettings } from './control-settings';
import { OrderReads } from './order-reads';
import { countedAs } from './target-outcome';
import { latchOf, tooMany, type LatchStore, type NewLatch } from './latch-store';

const CHUNK = 500;
/** A kill must not fail because the number of engaged latches is at its bound. */
const MAX_LATCHES_OF_ORDERS = 5 * MAX_LATCHES;
/** One script writes this many targets: some 5 ms of the server's time. */
const REPORTS_AT_ONCE = 100;

/** An order as the caller gives it. With `seq` and `placedAt` it was placed before. */
type AskedOrder = Omit<Order, 'seq' | 'placedAt'>;

interface KeptOrder {
  readonly order: Order;
  /** Whether this process placed it: then this process carries it out again, too. */
  readonly given: boolean;
}

export interface PlacedOrder {
  readonly order: Order;
  /** The kill is placed without its latch, since the list of latches is corrupt. */
  readonly latchLost: boolean;
  readonly created: boolean;
  /** Resolves within some 150 ms and never rejects; see Receipt.replicated. */
  readonly replicated: Promise<boolean | undefined>;
}

/** The orders log and the receipts. Each write is one script under the control tag. */
export class OrderStore extends OrderReads {
  /** The reports of this turn of the event loop, by order. */
  private readonly reports = new Map<string, { targets: TargetReceipt[]; sent: Promise<void> }>();

  private readonly kept: ExpiringMap<KeptOrder>;

  constructor(
    valkey: Valkey,
    private readonly settings: ControlSettings,
    latches: LatchStore,
    private readonly proof: Grade = 'marks',
  ) {
    super(valkey, latches);
    this.kept = new ExpiringMap(settings.recentMs);
  }

  /**
   * Stores an order, then announces it: the same script rings the doorbell. With a latch, the doorbell rings once every shard
   * has the latch. An order joins an open one of the same kind for the same agent, or for the same execution since its last
   * retry: `epoch` is the execution's, and where nobody could read the epoch the order joins none. @throws BelayError
   * TOO_MANY_LATCHES
   */
  async place(asked: AskedOrder, latch?: NewLatch, epoch: number | 'unknown' = 1): Promise<PlacedOrder> {
    const joins = joinKeyOf(asked, epoch);
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
      await this.latches.copy(JSON.parse(reply['latches']) as LatchSet);
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

  /** Keeps the reach with the order: when the order is stored again after a failover, it reaches no more than before. */
  keepReach(order: Order, reach: Reach): void {
    const kept = this.kept.get(order.id);
    if (kept !== undefined && kept.order.reach === undefined)
      this.kept.add(order.id, { ...kept, order: { ...kept.order, reach } });
  }

  /** Keeps an order that another process placed, so that it can be stored again. */
  keep(order: Order): void {
    if (!this.kept.has(order.id)) this.kept.add(order.id, { order, given: false });
  }

  /**
   * Stores an order of the last minute again if the server has lost it, with the time of its first placing: it reaches nothing
   * that began later. Resolves with the order if this process knows it. Repeatable.
   */
  async again(orderId: string): Promise<Order | undefined> {
    const kept = this.kept.get(orderId);
    if (kept === undefined) return undefined;
    const { order } = await this.store(kept.order, latchOf(kept.order), '');
    return order;
  }

  /**
   * After a failover: stores again every order of the last minute that this process knows. Resolves with those that it placed
   * itself.
   */
  async recall(): Promise<Order[]> {
    const kept = this.kept.list();
    for (const { order } of kept) await this.again(order.id);
    return kept.filter(({ given }) => given).map(({ order }) => order);
  }

  /**
   * Names targets. With `resolved` the lists of targets and of stopped executions are complete. False: the order is over and
   * takes no more.
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

  /** Rings again with the agents that the order names: among them are those that were claimed while it was placed. */
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
   * Stores a target's outcome. All reports of one turn of the event loop go in one script, so that the end of a thousand agents
   * at once takes a few calls. @throws NotFoundError
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

  /** The report as it counts: a proof below the required grade counts as none. */
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

  /** Closes a receipt whose limit has passed. */
  async expire(orderId: string): Promise<void> {
    await this.call('expireOrder', orderId, []);
  }

  /** A person declares that the missing confirmations will not come, and Belay stops trying. @throws NotFoundError */
  async close(orderId: string, by: string, note: string, who: SignedWith = {}): Promise<void> {
    await this.call('closeOrder', orderId, [by, note, JSON.stringify(roleOf(who))]);
  }

  /** Removes the targets of an order that is gone: retention removed it, or a failover lost it. */
  async dropOwnTargets(workerId: string, orderId: string, agentIds: readonly string[]): Promise<void> {
    const members = agentIds.map((agentId) => `${orderId} ${agentId}`);
    await this.valkey.redis.srem(this.valkey.keys.ownTargets(workerId), ...members);
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

/** The key by which orders join: two orders with the same key ask for the same. '' where each is an order of its own. */
function joinKeyOf({ kind, scope }: AskedOrder, epoch: number | 'unknown'): string {
  if (isWide(scope)) return '';
  const name = `${kind}:${scopeKey(scope)}`;
  if (scope.type !== 'execution') return name;
  return epoch === 'unknown' ? '' : `${name}:${epoch}`;
}
