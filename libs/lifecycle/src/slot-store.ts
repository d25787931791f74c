import {
  limitNames,
  parseAgentId,
  type AgentRecord,
  type DispatchEntry,
  type LimitRule,
  type LimitSet,
  type LimitsRecord,
} from '#libs/contracts';
import { parseStored, type ScriptReply, type Valkey } from '#libs/valkey';

/** Classes of waiting attempts that one script call looks at. */
const LOOKED_AT = 200;
/** Names with waiting attempts that one call looks at. */
const MOST_NAMES = 50;
/** Slots that one pass compares with what runs. */
const COMPARED = 200;
/** A slot that was granted longer ago is used, or never will be. Milliseconds. */
const UNUSED_MS = 5_000;
/** Far longer than a claim can be under way. Milliseconds. */
const FENCE_MS = 3_600_000;

/** An attempt that waits or starts, as the limits need it. */
export type LimitedEntry = Omit<DispatchEntry, 'delayMs'>;

/** An agent that runs, as the limits count it. */
export type CountedAgent = Pick<AgentRecord, 'id' | 'pool' | 'labels' | 'unreadable'>;

/** The answer to an attempt that asks for a slot. */
export type SlotAnswer = { readonly grant: number } | { readonly limit: string };

/**
 * Slots under the fleet's limits (R35, ADR 0024). They live in the control slot, under ids of attempts, so that a repeat counts once. Slots
 * of attempts that do not run are found by a comparison and given back behind a fence, so that none leaks and none is used twice.
 */
export class SlotStore {
  private cursor = '0';

  constructor(private readonly valkey: Valkey) {}

  private get key(): string {
    return this.valkey.keys.shard(this.valkey.keys.control, 'lim:held');
  }

  private async call(
    name: Parameters<Valkey['scripts']['json']>[0],
    args: readonly (string | number)[],
  ): Promise<ScriptReply> {
    return this.valkey.scripts.json(name, this.key, [this.valkey.keys.control, ...args]);
  }

  /** The limits as the control slot has them. */
  async limits(): Promise<LimitSet> {
    const { redis, keys } = this.valkey;
    const key = keys.shard(keys.control, 'limits');
    const [version, set] = await redis.hmget(key, 'version', 'set');
    return {
      version: Number(version ?? 0),
      items: typeof set === 'string' ? parseStored<LimitRule[]>(key, set) : [],
    };
  }

  /** The limits, and how many attempts count under them and wait for them. */
  async describe(): Promise<LimitsRecord> {
    const { redis, keys } = this.valkey;
    const waiting = keys.shard(keys.control, 'lim:waiting');
    const [limits, held, waits] = await Promise.all([
      this.limits(),
      redis.hlen(this.key),
      redis.hlen(waiting),
    ]);
    return { ...limits, held, waiting: waits };
  }

  /** Copies the limits to shards that have an older version. */
  async copy(): Promise<void> {
    const { redis, keys, scripts } = this.valkey;
    const { version, items } = await this.limits();
    if (version === 0) return;
    await Promise.all(
      keys.tags().map(async (tag) => {
        const key = keys.shard(tag, 'limits');
        if (Number(await redis.hget(key, 'version')) >= version) return;
        await scripts.json('copyLimits', key, [tag, version, JSON.stringify(items)]);
      }),
    );
  }

  /** Limits were set, and whoever set them has not counted what runs. */
  async isCounting(): Promise<boolean> {
    const { redis, keys } = this.valkey;
    return (await redis.hexists(keys.shard(keys.control, 'limits'), 'counting')) === 1;
  }

  /** Those that may be handed to BullMQ now. The others wait here and are answered by `free` or `sweep` later. */
  async gate(entries: readonly DispatchEntry[]): Promise<boolean[]> {
    const reply = await this.call(
      'gateAttempts',
      entries.map((entry) => JSON.stringify(entry)),
    );
    return (reply as unknown as number[]).map((pass) => pass === 1);
  }

  /** A slot, or the limit that is full: then the attempt waits for it. Repeatable. */
  async take(entry: LimitedEntry, names: readonly string[]): Promise<SlotAnswer> {
    const reply = await this.call('takeSlot', [JSON.stringify(entry), JSON.stringify(names)]);
    return reply.refused === undefined
      ? { grant: Number(reply['grant']) }
      : { limit: String(reply['limit']) };
  }

  /** Attempts that ended, or were cancelled before a claim. Returns those that may be handed over in their place. */
  async free(agentIds: readonly string[], how: 'ended' | 'unstarted' | 'waiting'): Promise<DispatchEntry[]> {
    return wokenOf(await this.call('freeSlots', [how, LOOKED_AT, ...agentIds]));
  }

  /**
   * A slot that was granted for a claim that was refused. Behind a fence in the attempt's shard: another worker may have the same
   * grant, and use it.
   */
  async giveBack(agentId: string, grant: number): Promise<DispatchEntry[]> {
    return this.freeUnused([`${agentId} ${grant}`]);
  }

  /** Whether it was let go on while its job was still in hand. */
  async isWoken(agentId: string): Promise<boolean> {
    const { redis, keys } = this.valkey;
    return (await redis.zscore(keys.shard(keys.control, 'lim:woken'), agentId)) !== null;
  }

  /** The full limit that each of those waits for. */
  async limitsOf(agentIds: readonly string[]): Promise<(string | undefined)[]> {
    const { redis, keys } = this.valkey;
    const waiting = keys.shard(keys.control, 'lim:waiting');
    const texts = await redis.hmget(waiting, ...agentIds);
    const classes = texts.map((text) =>
      typeof text === 'string' ? parseStored<{ q: string }>(waiting, text).q : undefined,
    );
    const known = [...new Set(classes)].filter((name) => name !== undefined);
    if (known.length === 0) return classes.map(() => undefined);
    const names = await redis.hmget(keys.shard(keys.control, 'lim:at'), ...known);
    return classes.map((name) =>
      name === undefined ? undefined : (names[known.indexOf(name)] ?? undefined),
    );
  }

  /**
   * Attempts that run count, however they began. `agents` reads all of them, and is called once every shard has the limits: what is
   * claimed later has a slot. Returns how many had none.
   */
  async count(agents: () => Promise<readonly CountedAgent[]>): Promise<number> {
    await this.copy();
    const { version, items } = await this.limits();
    const counted = (await agents())
      .filter(({ unreadable }) => unreadable !== true)
      .map(({ id, pool, labels = {} }) => ({ id, k: limitNames(items, pool, labels) }))
      .filter(({ k }) => k.length > 0);
    let held = 0;
    for (let i = 0; i === 0 || i < counted.length; i += COMPARED) {
      const texts = counted.slice(i, i + COMPARED).map((one) => JSON.stringify(one));
      const isLast = i + COMPARED >= counted.length;
      held += Number((await this.call('holdSlots', [isLast ? version : '', ...texts]))['held']);
    }
    return held;
  }

  /** One bounded pass: gives back what nothing uses. Returns attempts to hand over. */
  async sweep(): Promise<DispatchEntry[]> {
    const reply = await this.call('wakeLimited', [LOOKED_AT, MOST_NAMES]);
    const woken = wokenOf(reply);
    if (Number(reply['held']) === 0) return woken;
    const [next, fields] = await this.valkey.redis.hscan(this.key, this.cursor, 'COUNT', COMPARED);
    this.cursor = next;
    const old = (await this.valkey.timeAt(this.key)) - UNUSED_MS;
    const slots: string[] = [];
    for (let i = 0; i < fields.length; i += 2) {
      const { g, at } = parseStored<{ g: number; at: number }>(this.key, fields[i + 1] as string);
      if (at < old) slots.push(`${fields[i]} ${g}`);
    }
    return [...woken, ...(await this.freeUnused(slots))];
  }

  private async freeUnused(slots: readonly string[]): Promise<DispatchEntry[]> {
    const { keys, scripts } = this.valkey;
    const byTag = new Map<string, string[]>();
    for (const slot of slots) {
      const tag = keys.tagOf(parseAgentId(slot.split(' ')[0] as string)?.executionId ?? '');
      byTag.set(tag, [...(byTag.get(tag) ?? []), slot]);
    }
    const gone = await Promise.all(
      [...byTag].map(async ([tag, group]) => {
        const found = await scripts.json('fenceSlots', keys.shard(tag, 'outbox'), [tag, FENCE_MS, ...group]);
        return Array.isArray(found) ? (found as string[]) : [];
      }),
    );
    return gone.flat().length === 0 ? [] : this.free(gone.flat(), 'unstarted');
  }
}

/** An empty Lua table is an object, not a list. */
function wokenOf({ woken }: ScriptReply): DispatchEntry[] {
  return Array.isArray(woken) ? (woken as string[]).map((text) => JSON.parse(text) as DispatchEntry) : [];
}
