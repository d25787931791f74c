import {
  APPROVAL_MS,
  BelayError,
  conditionsOf,
  isLatchId,
  MAX_LATCHES,
  NotFoundError,
  roleOf,
  type Latch,
  type LatchSet,
  type Order,
  type PendingRelease,
  type Scope,
  type Signature,
  type SignedWith,
} from '#libs/contracts';
import { parseStored, ExpiringMap, type ScriptReply, type Valkey, type WriteMark } from '#libs/valkey';
import { ulid } from 'ulid';
import type { ControlSettings } from './control-settings';

/** Parked attempts freed by one script call. */
const FREE_BATCH = 500;

/** Each round includes changes that other processes made since the round before. */
const MOST_ROUNDS = 20;

/** A shard's copy with a higher version than the list's. */
interface AheadCopy {
  /** The version that the list must have by now. */
  readonly least: number;
  readonly items: readonly Latch[];
}

export type NewLatch = Omit<Latch, 'approval' | 'engagedAt' | 'releasedAt' | 'releasedBy' | 'releaseNote'>;

/** The outcome of a release. `pending`: another person is needed. */
export interface LatchRelease {
  readonly latch: Latch;
  readonly already: boolean;
  readonly pending?: PendingRelease;
}

/** A latch as the engaging script takes it. */
export function newLatch(
  kind: Latch['kind'],
  scope: Scope,
  said: Signature & {
    readonly note?: string | undefined;
    readonly orderId?: string;
    readonly releaseNeeds?: number | undefined;
  },
): NewLatch {
  const { by, note, orderId, releaseNeeds = 1 } = said;
  return {
    id: `lat_${ulid()}`,
    kind,
    scope,
    by,
    ...roleOf(said),
    ...(scope.type === 'selector' ? { requires: conditionsOf(scope.selector) } : {}),
    ...(note === undefined ? {} : { note }),
    ...(orderId === undefined ? {} : { orderId }),
    ...(releaseNeeds === 1 ? {} : { releaseNeeds }),
  };
}

/** The latch that came with an order, made from the order alone. */
export function latchOf(order: Order): NewLatch | undefined {
  const { id, kind, scope, by, note, latchId, releaseNeeds } = order;
  // A thaw names the latch of the freeze that it ends.
  if (latchId === undefined || kind === 'thaw') return undefined;
  const latch = newLatch(kind === 'freeze' ? 'freeze' : 'latch', scope, {
    by,
    note,
    orderId: id,
    releaseNeeds,
    ...roleOf(order),
  });
  return { ...latch, id: latchId };
}

/**
 * The engaged latches. Their list is in the control slot. Every shard has a copy with a version, and the claim script reads
 * only its shard's copy. The process that changes the list copies it; the sweep copies the list where that was left undone.
 */
export class LatchStore {
  private readonly given: ExpiringMap<NewLatch>;
  /** The latches that were engaged at the last look of `follow`. */
  private followed: readonly Latch[] = [];

  constructor(
    private readonly valkey: Valkey,
    private readonly settings: ControlSettings,
  ) {
    this.given = new ExpiringMap(settings.recentMs);
  }

  /** Engages a latch without an order. Resolves when every shard has it: from then on no claim in its scope is granted. */
  async engage(latch: NewLatch): Promise<Latch> {
    const mark = await this.store(latch);
    this.given.add(latch.id, latch);
    const replicated = await this.valkey.replication.reached(mark);
    return { ...(await this.get(latch.id)), ...(replicated === undefined ? {} : { replicated }) };
  }

  /**
   * Pauses a pool's queue. Resolves when every shard has the pause. `already`: the pool was paused before, by the pause that is
   * returned, and nothing was changed.
   */
  async pause(
    pool: string,
    said: Signature & { readonly note?: string },
  ): Promise<{ latch: Latch; already: boolean }> {
    const fresh = newLatch('pause', { type: 'pool', pool }, said);
    const before = await this.pauseOf(pool);
    if (before !== undefined) return { latch: before, already: true };
    // Of two calls at once the script engages one latch. The other must not be stored again after a failover.
    await this.store(fresh);
    const held = await this.pauseOf(pool);
    if (held?.id === fresh.id) this.given.add(fresh.id, fresh);
    return { latch: held ?? (await this.get(fresh.id)), already: held !== undefined && held.id !== fresh.id };
  }

  /** The pause of a pool's queue. */
  async pauseOf(pool: string): Promise<Latch | undefined> {
    return (await this.list()).find(
      ({ kind, scope }) => kind === 'pause' && 'pool' in scope && scope.pool === pool,
    );
  }

  private async store(latch: NewLatch): Promise<WriteMark> {
    const reply = await this.call('engageLatch', latch.id, [JSON.stringify(latch), MAX_LATCHES]);
    const mark = this.valkey.replication.mark(this.valkey.keys.control);
    if (reply.refused !== undefined) throw tooMany(MAX_LATCHES);
    await this.copy(JSON.parse(reply['latches'] as string) as LatchSet);
    return mark;
  }

  /**
   * After a failover: engages again the latches of the last minute that this process engaged and nobody released. Repeatable.
   */
  async recall(): Promise<void> {
    for (const latch of this.given.list()) await this.store(latch);
  }

  /**
   * The engaged latches as a worker follows them. A latch that was engaged at the last look, and is gone without a release, was
   * lost with a primary: it is engaged again.
   */
  async follow(): Promise<readonly Latch[]> {
    const found = await this.list();
    const gone = this.followed.filter(({ id }) => !found.some((one) => one.id === id));
    for (const latch of gone) await this.store(latch);
    this.followed = gone.length === 0 ? found : await this.list();
    return this.followed;
  }

  /**
   * Resolves when no shard has the latch any more. `already`: it had been released before. The same script orders the thaw of a
   * freeze: the released latch names it. `pending`: the latch stays engaged until another person releases it; `already` then
   * says that this person had approved before. @throws NotFoundError
   */
  async release(latchId: string, by: string, note: string, who: SignedWith = {}): Promise<LatchRelease> {
    this.given.drop(latchId);
    const reply = await this.call('releaseLatch', latchId, [
      by,
      note,
      `ord_${ulid()}`,
      JSON.stringify(roleOf(who)),
      APPROVAL_MS,
    ]);
    if (reply.refused !== undefined) throw new NotFoundError('latch', latchId);
    const latch = JSON.parse(reply['latch'] as string) as Latch;
    const already = reply['already'] as boolean;
    const { approval } = latch;
    if (reply['pending'] === true && approval !== undefined) {
      // Engaged as before, so a failover that loses it must not release it.
      this.given.add(latchId, latch);
      const { by: approvedBy, expiresAt } = approval;
      return { latch, already, pending: { needs: 1, approvedBy, expiresAt } };
    }
    await this.copy(JSON.parse(reply['latches'] as string) as LatchSet);
    return { latch, already };
  }

  /**
   * Resolves when every shard has the list, or a newer one that came from it. A shard hands over again the attempts that a
   * released latch had parked. If a shard's version is ahead of the list's, the list gets a higher version: the list wins.
   */
  async copy(set: LatchSet): Promise<void> {
    const tags = this.valkey.keys.tags();
    let latest = set;
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const given = latest;
      const copies = await Promise.all(tags.map(async (tag) => this.copyTo(tag, given)));
      const ahead = copies.filter((copy) => copy !== undefined);
      if (ahead.length === 0) return;
      latest = await this.overtake(ahead);
    }
    throw new BelayError(
      'OUTCOME_UNKNOWN',
      'The latches kept changing: some shards may lack the newest ones. Look at them with: belay latches',
    );
  }

  /** The shard's own copy, if its version is higher, or the same with other latches. */
  private async copyTo(tag: string, { version, items }: LatchSet): Promise<AheadCopy | undefined> {
    const { keys, scripts } = this.valkey;
    const args = [tag, version, JSON.stringify(items), FREE_BATCH];
    for (;;) {
      const { more, least, set } = await scripts.json('copyLatches', keys.shard(tag, 'latches'), args);
      if (more === true) continue;
      if (least === undefined) return undefined;
      return { least: Number(least), items: parseStored<Latch[]>(keys.shard(tag, 'latches'), set as string) };
    }
  }

  /**
   * Gives the list a version above those copies. Another process may have changed the list meanwhile: then it is newer already.
   */
  private async overtake(ahead: readonly AheadCopy[]): Promise<LatchSet> {
    const { keys, scripts } = this.valkey;
    const least = Math.max(...ahead.map((copy) => copy.least));
    const items = new Map(ahead.flatMap((copy) => copy.items).map((latch) => [latch.id, latch]));
    const args = [keys.control, least, this.settings.text, JSON.stringify([...items.values()])];
    const reply = await scripts.json('overtakeLatches', keys.shard(keys.control, 'latches'), args);
    return JSON.parse(reply['latches'] as string) as LatchSet;
  }

  /**
   * Copies the list to shards that have another one, or parked attempts left to free: the process that changed it died in
   * between, or a failover lost the list's last changes.
   */
  async repair(): Promise<void> {
    const { redis, keys } = this.valkey;
    const version = Number(await redis.get(keys.shard(keys.control, 'latches:version')));
    const isDone = await Promise.all(
      keys.tags().map(async (tag) => {
        const [held, freeing] = await redis.hmget(keys.shard(tag, 'latches'), 'version', 'freeing');
        return Number(held ?? 0) === version && freeing === null;
      }),
    );
    if (isDone.every(Boolean)) return;
    await this.copy(await this.read());
  }

  /** Reads the version first: a change in between makes the copy look older than it is, never newer. */
  private async read(): Promise<LatchSet> {
    const { redis, keys } = this.valkey;
    const version = Number(await redis.get(keys.shard(keys.control, 'latches:version')));
    return { version, items: await this.list() };
  }

  /**
   * The engaged latches, oldest first. An unreadable latch is an error, not left out: the next copy would release it.
   * @throws BelayError CORRUPT_RECORD, and the shards keep the copies that they have
   */
  async list(): Promise<Latch[]> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.shard(keys.control, 'latches');
    const latches = await quarantine.reading(key, async () =>
      Object.entries(await redis.hgetall(key)).map(([id, text]) => parseStored<Latch>(key, text, id)),
    );
    return latches.sort((a, b) => a.engagedAt - b.engagedAt);
  }

  /** An engaged or a released latch. @throws NotFoundError */
  async get(latchId: string): Promise<Latch> {
    if (!isLatchId(latchId)) throw new NotFoundError('latch', latchId);
    const { redis, keys } = this.valkey;
    const text =
      (await redis.hget(keys.shard(keys.control, 'latches'), latchId)) ??
      (await redis.get(keys.releasedLatch(latchId)));
    if (text === null) throw new NotFoundError('latch', latchId);
    return JSON.parse(text) as Latch;
  }

  private async call(
    name: 'engageLatch' | 'releaseLatch',
    id: string,
    rest: readonly (string | number)[],
  ): Promise<ScriptReply> {
    const { keys, scripts } = this.valkey;
    const key = keys.shard(keys.control, 'latches');
    return scripts.json(name, key, [keys.control, id, this.settings.text, ...rest]);
  }
}

export function tooMany(most: number): BelayError {
  return new BelayError(
    'TOO_MANY_LATCHES',
    `There are ${most} latches already. Release those that are not needed: belay latches`,
  );
}
