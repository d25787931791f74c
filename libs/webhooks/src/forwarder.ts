import type { Delivery } from '#libs/dispatch';
import { ShardLock, type Valkey } from '#libs/valkey';
import { GAP_TYPE, gapMessage, messageOf } from './make-message';
import { isAfter, parsePosition, showPosition, START, type Position } from './position';

/** An endpoint, as the forwarder sees it. */
export interface Target {
  readonly name: string;
  wants(type: string): boolean;
  /** Whether it may get further deliveries now. */
  hasRoom(): Promise<boolean>;
  /** Stores deliveries. Repeatable. */
  store(deliveries: readonly Delivery[]): Promise<void>;
}

/** Another orchestrator forwards this long after the death of the one before. Milliseconds. */
const HOLD_MS = 3_000;
const BATCH = 64;

type Entry = readonly [id: string, fields: readonly string[]];

/**
 * Reads the stream of control events and stores a delivery for each event that an endpoint wants, then moves that endpoint's
 * cursor. One orchestrator at a time does it. A crash in between repeats the storing, and the job's id makes two of them one.
 * An endpoint whose queue is full stays where it is: the stream is its backlog, and it is told of what the stream lost.
 */
export class Forwarder {
  private readonly lock: ShardLock;
  private readonly stream: string;
  private readonly cursors: string;
  /** The server may have lost events that were read. */
  private isDoubted = true;

  constructor(
    private readonly valkey: Valkey,
    private readonly targets: readonly Target[],
  ) {
    const { keys } = valkey;
    this.lock = new ShardLock(valkey, 'webhooks', HOLD_MS);
    this.stream = keys.shard(keys.control, 'events');
    this.cursors = keys.shard(keys.control, 'webhooks:cursors');
  }

  /** The next pass compares the cursors with the stream: after a failover the stream may end before them. */
  doubt(): void {
    this.isDoubted = true;
  }

  /** Forwards a batch. Resolves with whether there may be more. @throws the first error, after every endpoint was tried */
  async pass(): Promise<boolean> {
    const fence = await this.lock.take(this.valkey.keys.control);
    if (fence === undefined) {
      // The other orchestrator may move the cursors past a failover.
      this.isDoubted = true;
      return false;
    }
    const stored = await this.valkey.redis.hgetall(this.cursors);
    const isNew = this.targets.some(({ name }) => stored[name] === undefined);
    const isDoubted = this.isDoubted;
    const newest = isNew || isDoubted ? await this.newest() : undefined;
    // A doubt that comes during this pass stays for the next one.
    this.isDoubted = false;
    const groups = new Map<string, Target[]>();
    for (const target of this.targets) {
      const from = stored[target.name] ?? '';
      groups.set(from, [...(groups.get(from) ?? []), target]);
    }
    const done = await Promise.allSettled(
      [...groups].map(async ([from, targets]) => this.forward(from, targets, newest, isDoubted)),
    );
    const failed = done.find((one) => one.status === 'rejected');
    if (failed !== undefined) {
      this.isDoubted ||= isDoubted;
      throw failed.reason;
    }
    return done.some((one) => one.status === 'fulfilled' && one.value);
  }

  /** Lets another orchestrator forward at once. */
  async giveBack(): Promise<void> {
    await this.lock.giveBack();
  }

  private async forward(
    from: string,
    targets: readonly Target[],
    newest: Position | undefined,
    isDoubted: boolean,
  ): Promise<boolean> {
    if (from === '') {
      // A new endpoint is told of what happens from now on.
      await this.move(targets, from, newest ?? START);
      return true;
    }
    const position = parsePosition(from);
    if (newest !== undefined && isDoubted && isAfter(position.id, newest.id)) {
      const gap = gapMessage(position, newest, 'failover');
      return this.store(targets, from, newest, () => [gap]);
    }
    const { messages, last, isFull } = await this.read(position);
    if (last === position) return false;
    const isAll = await this.store(targets, from, last, (target) =>
      messages.filter(({ type }) => type === GAP_TYPE || target.wants(type)),
    );
    return isAll && isFull;
  }

  /** Each target that takes its messages gets its cursor moved. Resolves with whether all did. */
  private async store(
    targets: readonly Target[],
    from: string,
    to: Position,
    messagesOf: (target: Target) => readonly Delivery[],
  ): Promise<boolean> {
    const took: Target[] = [];
    const tries = await Promise.allSettled(
      targets.map(async (target) => {
        const messages = messagesOf(target);
        if (messages.length > 0) {
          if (!(await target.hasRoom())) return;
          await target.store(messages);
        }
        took.push(target);
      }),
    );
    if (took.length > 0) await this.move(took, from, to);
    const failed = tries.find((one) => one.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return took.length === targets.length;
  }

  private async move(targets: readonly Target[], from: string, to: Position): Promise<void> {
    const { keys, scripts } = this.valkey;
    const moves = targets.map(({ name }) => [name, from, showPosition(to)]);
    await scripts.json('moveWebhookCursors', this.cursors, [keys.control, JSON.stringify(moves)]);
  }

  /** The messages after a position. A number that is missing in the stream becomes a message of its own. */
  private async read(from: Position): Promise<{ messages: Delivery[]; last: Position; isFull: boolean }> {
    const found = (await this.valkey.redis.xrange(
      this.stream,
      `(${from.id}`,
      '+',
      'COUNT',
      BATCH,
    )) as Entry[];
    const messages: Delivery[] = [];
    let last = from;
    for (const [id, fields] of found) {
      const message = messageOf(id, fields[1] ?? '');
      if (message === undefined) continue;
      const position = { id, seq: message.seq };
      if (message.seq !== last.seq + 1)
        messages.push(gapMessage(last, position, message.seq > last.seq ? 'retention' : 'failover'));
      messages.push(message.delivery);
      last = position;
    }
    // An entry that cannot be read is passed over; the next one shows that its number is missing.
    const end = found.at(-1)?.[0];
    if (end !== undefined && end !== last.id) last = { id: end, seq: last.seq };
    return { messages, last, isFull: found.length === BATCH };
  }

  private async newest(): Promise<Position> {
    const found = (await this.valkey.redis.xrevrange(this.stream, '+', '-', 'COUNT', 1)) as Entry[];
    const [id, fields] = found[0] ?? [];
    if (id === undefined) return START;
    return { id, seq: messageOf(id, fields?.[1] ?? '')?.seq ?? 0 };
  }
}
