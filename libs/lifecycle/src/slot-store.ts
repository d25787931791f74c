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
import { Subject, type Observable } from 'rxjs';

/** One script call looks at this many classes of waiting attempts. */
const LOOKED_AT = 200;
/** One call looks at this many names that have waiting attempts. */
const MOST_NAMES = 50;
/** One look asks for this many kinds of attempts. */
const MOST_ASKED = 100;
/** One pass compares this many slots with the agents that run. */
const COMPARED = 200;
/** A slot that was granted longer ago is used, or never will be. Milliseconds. */
const UNUSED_MS = 5_000;
/** The fence of a void grant is kept this long, far longer than a claim can be under way. Milliseconds. */
const FENCE_MS = 3_600_000;

/** An attempt that waits or starts: the fields that the limits need. */
export type LimitedEntry = Omit<DispatchEntry, 'delayMs'>;

/** An agent that runs: the fields that the limits count. */
export type CountedAgent = Pick<AgentRecord, 'id' | 'pool' | 'labels' | 'state' | 'unreadable'>;

/** The answer to an attempt that asks for a slot. */
export type SlotAnswer = { readonly grant: number } | { readonly limit: string };

/**
 * Slots under the fleet's limits (docs/limits.md, ADR 0024). They live in the control slot, under ids of attempts, so
 * that a repeat counts once. A comparison finds slots of attempts that do not run. These are given back behind a
 * fence, so that no slot leaks and none is used twice.
 */
export class SlotStore {
  private cursor = '0';
  private readonly wokenEntries = new Subject<readonly DispatchEntry[]>();
  /** Whether the last pass left attempts to wake. */
  private isFull = false;

  constructor(private readonly valkey: Valkey) {}

  /** Attempts that another attempt's request woke. The subscriber hands them over. */
  get woken$(): Observable<readonly DispatchEntry[]> {
    return this.wokenEntries;
  }

  /**
   * Tells the subscribers that hand attempts over. Where nobody subscribes, the janitor hands the attempts over again
   * once their tickets have lapsed.
   */
  tell(woken: readonly DispatchEntry[]): void {
    if (woken.length > 0) this.wokenEntries.next(woken);
  }

  private get key(): string {
    return this.valkey.keys.shard(this.valkey.keys.control, 'lim:held');
  }

  private async call(
    name: Parameters<Valkey['scripts']['json']>[0],
    args: readonly (string | number)[],
  ): Promise<ScriptReply> {
    return this.valkey.scripts.json(name, this.key, [this.valkey.keys.control, ...args]);
  }

  /** The limits as the control slot stores them. */
  async limits(): Promise<LimitSet> {
    const { redis, keys } = this.valkey;
    const key = keys.shard(keys.control, 'limits');
    const [version, set] = await redis.hmget(key, 'version', 'set');
    return {
      version: Number(version ?? 0),
      items: typeof set === 'string' ? parseStored<LimitRule[]>(key, set) : [],
    };
  }

  /** The limits, and how many attempts count under each and wait for each. */
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

  /**
   * Copies the limits to shards with an older version. After a failover of the control slot a shard may have a newer
   * version: then the control slot takes the shard's, since a person had set it. A change that is made after the
   * failover wins, because it gets a version above that of every shard (`newestCopy`).
   */
  async copy(): Promise<void> {
    const { version, items } = await this.limits();
    const copies = await this.copies();
    let newest = { version, set: JSON.stringify(items) };
    for (const copy of copies) if (copy.version > newest.version) newest = copy;
    // The control slot first: the newest version must not be in a shard alone.
    if (newest.version > version) await this.copyTo(this.valkey.keys.control, newest, true);
    const older = copies.filter((copy) => copy.version < newest.version);
    await Promise.all(older.map(async ({ tag }) => this.copyTo(tag, newest, false)));
  }

  /** The highest version in any shard. The control slot may have lost it. */
  async newestCopy(): Promise<number> {
    return Math.max(...(await this.copies()).map(({ version }) => version));
  }

  private async copies(): Promise<{ tag: string; version: number; set: string }[]> {
    const { redis, keys } = this.valkey;
    return Promise.all(
      keys.tags().map(async (tag) => {
        const [held, set] = await redis.hmget(keys.shard(tag, 'limits'), 'version', 'set');
        return { tag, version: Number(held ?? 0), set: set ?? '[]' };
      }),
    );
  }

  private async copyTo(
    tag: string,
    { version, set }: { readonly version: number; readonly set: string },
    isToBeCounted: boolean,
  ): Promise<void> {
    const { keys, scripts } = this.valkey;
    const args = [tag, version, set, isToBeCounted ? 1 : 0];
    await scripts.json('copyLimits', keys.shard(tag, 'limits'), args);
  }

  /** Limits were set, and the process that set them has not counted the running agents yet. */
  async isCounting(): Promise<boolean> {
    const { redis, keys } = this.valkey;
    return (await redis.hexists(keys.shard(keys.control, 'limits'), 'counting')) === 1;
  }

  /**
   * Tells which attempts may be handed to BullMQ now. The others wait in the control slot; `free` or `sweep` returns
   * them later.
   */
  async gate(entries: readonly DispatchEntry[]): Promise<boolean[]> {
    const texts = entries.map((entry) => JSON.stringify(entry));
    const reply = await this.call('gateAttempts', [LOOKED_AT, ...texts]);
    this.tell(entriesOf(reply['woken']));
    return (reply['answers'] as number[]).map((pass) => pass === 1);
  }

  /** Grants a slot, or names the limit that the attempt waits for from here on. Repeatable. */
  async take(entry: LimitedEntry, names: readonly string[]): Promise<SlotAnswer> {
    const reply = await this.call('takeSlot', [JSON.stringify(entry), JSON.stringify(names), LOOKED_AT]);
    this.tell(entriesOf(reply['woken']));
    return reply.refused === undefined
      ? { grant: Number(reply['grant']) }
      : { limit: String(reply['limit']) };
  }

  /**
   * Frees the slots of attempts that ended, or were cancelled before a claim. Returns the attempts that may be handed
   * over in their place.
   */
  async free(agentIds: readonly string[], how: 'ended' | 'unstarted' | 'waiting'): Promise<DispatchEntry[]> {
    return entriesOf((await this.call('freeSlots', [how, LOOKED_AT, ...agentIds]))['woken']);
  }

  /**
   * Gives back a slot whose claim was refused, behind a fence in the attempt's shard: another worker may use the same
   * grant.
   */
  async giveBack(agentId: string, grant: number): Promise<DispatchEntry[]> {
    return this.freeUnused([`${agentId} ${grant}`]);
  }

  /**
   * The first limit that keeps one of those attempts from starting now, or undefined. Reserves nothing. `waitMs`: the
   * time until a limit per minute has room again; absent where agents have to end first.
   */
  async fullLimit(
    attempts: readonly { readonly pool: string; readonly labels: Readonly<Record<string, string>> }[],
  ): Promise<{ readonly limit: string; readonly waitMs?: number } | undefined> {
    const { items } = await this.limits();
    const asked = attempts
      .map(({ pool, labels }) => ({ k: limitNames(items, pool, labels), pool }))
      .filter(({ k }) => k.length > 0)
      .map((one) => JSON.stringify(one));
    if (asked.length === 0) return undefined;
    const reply = await this.call('askRoom', [...new Set(asked)].slice(0, MOST_ASKED));
    const { limit, waitMs } = reply as { limit?: string; waitMs?: string };
    if (limit === undefined) return undefined;
    return { limit, ...(waitMs === undefined ? {} : { waitMs: Number(waitMs) }) };
  }

  /** Whether the attempt was woken while its job was still in hand. */
  async isWoken(agentId: string): Promise<boolean> {
    const { redis, keys } = this.valkey;
    return (await redis.zscore(keys.shard(keys.control, 'lim:woken'), agentId)) !== null;
  }

  /** The full limit that each of those attempts waits for. */
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
   * Counts the attempts that run, however they began. `agents` reads all of them. It is called once every shard has
   * the limits, because later claims have a slot. Resolves with the number of agents that had no slot.
   */
  async count(agents: () => Promise<readonly CountedAgent[]>): Promise<number> {
    await this.copy();
    const { version, items } = await this.limits();
    const counted = (await agents())
      // An agent that ended during the read has given its slot back.
      .filter(({ unreadable, state }) => unreadable !== true && (state === 'spawning' || state === 'running'))
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

  /** Runs `sweep` while there are attempts to wake, and for about `ms` at most. */
  async *sweeps(ms: number): AsyncGenerator<DispatchEntry[]> {
    const begun = performance.now();
    do yield await this.sweep();
    while (this.isFull && performance.now() - begun < ms);
  }

  /** One bounded pass: gives back unused slots. Resolves with the attempts to hand over. */
  async sweep(): Promise<DispatchEntry[]> {
    const reply = await this.call('wakeLimited', [LOOKED_AT, MOST_NAMES]);
    this.isFull = reply['isFull'] === true;
    const again = await this.stillReady(entriesOf(reply['again']));
    const woken = [...entriesOf(reply['woken']), ...again];
    if (Number(reply['held']) === 0) return woken;
    const [next, fields] = await this.valkey.redis.hscan(this.key, this.cursor, 'COUNT', COMPARED);
    this.cursor = next;
    const now = await this.valkey.timeAt(this.key);
    const slots: string[] = [];
    for (let i = 0; i < fields.length; i += 2) {
      const { g, at } = parseStored<{ g: number; at: number }>(this.key, fields[i + 1] as string);
      // A grant with a time after now is from before the clock was set back: nobody knows its age.
      if (at < now - UNUSED_MS || at > now) slots.push(`${fields[i]} ${g}`);
    }
    return [...woken, ...(await this.freeUnused(slots))];
  }

  /** The attempts that may still start. The others were cancelled or claimed since they were woken. */
  private async stillReady(entries: readonly DispatchEntry[]): Promise<DispatchEntry[]> {
    const { keys, redis } = this.valkey;
    const isReady = await Promise.all(
      entries.map(async ({ agentId, executionId }) =>
        redis.hexists(keys.shard(keys.tagOf(executionId), 'outbox'), agentId),
      ),
    );
    const over = entries.filter((_, i) => isReady[i] === 0).map(({ agentId }) => agentId);
    const woken = over.length === 0 ? [] : await this.free(over, 'waiting');
    return [...entries.filter((_, i) => isReady[i] === 1), ...woken];
  }

  private async freeUnused(slots: readonly string[]): Promise<DispatchEntry[]> {
    const { keys, scripts } = this.valkey;
    const byTag = new Map<string, string[]>();
    for (const slot of slots) {
      const agent = parseAgentId(slot.split(' ')[0] as string);
      // A field that names no agent must not keep the other slots from being given back.
      if (agent === undefined) continue;
      const tag = keys.tagOf(agent.executionId);
      byTag.set(tag, [...(byTag.get(tag) ?? []), slot]);
    }
    const looks = await Promise.all(
      [...byTag].map(async ([tag, group]) =>
        scripts.json('fenceSlots', keys.shard(tag, 'outbox'), [tag, FENCE_MS, ...group]),
      ),
    );
    const woken: DispatchEntry[] = [];
    // A start counts for its minute, although the attempt has ended.
    for (const how of ['ended', 'unstarted'] as const) {
      const gone = looks.flatMap((look) => textsOf(look[how]));
      if (gone.length > 0) woken.push(...(await this.free(gone, how)));
    }
    return woken;
  }
}

/** cjson encodes an empty Lua table as an object, not as a list. */
const textsOf = (list: unknown): string[] => (Array.isArray(list) ? (list as string[]) : []);
const entriesOf = (list: unknown): DispatchEntry[] =>
  textsOf(list).map((text) => JSON.parse(text) as DispatchEntry);
