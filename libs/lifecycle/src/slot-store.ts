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

/** Classes of waiting attempts that one script call looks at. */
const LOOKED_AT = 200;
/** Names with waiting attempts that one call looks at. */
const MOST_NAMES = 50;
/** Kinds of attempts that one look asks for. */
const MOST_ASKED = 100;
/** Slots that one pass compares with what runs. */
const COMPARED = 200;
/** A slot that was granted longer ago is used, or never will be. Milliseconds. */
const UNUSED_MS = 5_000;
/** Far longer than a claim can be under way. Milliseconds. */
const FENCE_MS = 3_600_000;

/** An attempt that waits or starts, as the limits need it. */
export type LimitedEntry = Omit<DispatchEntry, 'delayMs'>;

/** An agent that runs, as the limits count it. */
export type CountedAgent = Pick<AgentRecord, 'id' | 'pool' | 'labels' | 'state' | 'unreadable'>;

/** The answer to an attempt that asks for a slot. */
export type SlotAnswer = { readonly grant: number } | { readonly limit: string };

/**
 * Slots under the fleet's limits (R35, ADR 0024). They live in the control slot, under ids of attempts, so that a repeat counts once. Slots
 * of attempts that do not run are found by a comparison and given back behind a fence, so that none leaks and none is used twice.
 */
export class SlotStore {
  private cursor = '0';
  private readonly wokenEntries = new Subject<readonly DispatchEntry[]>();
  /** The last pass left something to wake. */
  private isFull = false;

  constructor(private readonly valkey: Valkey) {}

  /** Attempts that got their turn with another's question. They are to be handed over. */
  get woken$(): Observable<readonly DispatchEntry[]> {
    return this.wokenEntries;
  }

  /** Tells those who hand over. Where nobody does, the janitor hands over again once their tickets have lapsed. */
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

  /**
   * Copies the limits to shards that have an older version. A failover of the control slot may have lost a change that a shard has:
   * the control slot takes it from there, since a person set it and was told so. A change that is set after the failover wins over it:
   * it gets a version above each shard's (`newestCopy`).
   */
  async copy(): Promise<void> {
    const { version, items } = await this.limits();
    const copies = await this.copies();
    let newest = { version, set: JSON.stringify(items) };
    for (const copy of copies) if (copy.version > newest.version) newest = copy;
    // The control slot first: a shard of the newest version must not be the only one that has it.
    if (newest.version > version) await this.copyTo(this.valkey.keys.control, newest, true);
    const older = copies.filter((copy) => copy.version < newest.version);
    await Promise.all(older.map(async ({ tag }) => this.copyTo(tag, newest, false)));
  }

  /** The highest version that a shard has. It may be one that the control slot has lost. */
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

  /** Limits were set, and whoever set them has not counted what runs. */
  async isCounting(): Promise<boolean> {
    const { redis, keys } = this.valkey;
    return (await redis.hexists(keys.shard(keys.control, 'limits'), 'counting')) === 1;
  }

  /** Those that may be handed to BullMQ now. The others wait here and are answered by `free` or `sweep` later. */
  async gate(entries: readonly DispatchEntry[]): Promise<boolean[]> {
    const texts = entries.map((entry) => JSON.stringify(entry));
    const reply = await this.call('gateAttempts', [LOOKED_AT, ...texts]);
    this.tell(entriesOf(reply['woken']));
    return (reply['answers'] as number[]).map((pass) => pass === 1);
  }

  /** A slot, or the limit that the attempt waits for from here on. Repeatable. */
  async take(entry: LimitedEntry, names: readonly string[]): Promise<SlotAnswer> {
    const reply = await this.call('takeSlot', [JSON.stringify(entry), JSON.stringify(names), LOOKED_AT]);
    this.tell(entriesOf(reply['woken']));
    return reply.refused === undefined
      ? { grant: Number(reply['grant']) }
      : { limit: String(reply['limit']) };
  }

  /** Attempts that ended, or were cancelled before a claim. Returns those that may be handed over in their place. */
  async free(agentIds: readonly string[], how: 'ended' | 'unstarted' | 'waiting'): Promise<DispatchEntry[]> {
    return entriesOf((await this.call('freeSlots', [how, LOOKED_AT, ...agentIds]))['woken']);
  }

  /**
   * A slot that was granted for a claim that was refused. Behind a fence in the attempt's shard: another worker may have the same
   * grant, and use it.
   */
  async giveBack(agentId: string, grant: number): Promise<DispatchEntry[]> {
    return this.freeUnused([`${agentId} ${grant}`]);
  }

  /**
   * The first limit that keeps one of those attempts from starting now, undefined where none does. A look: nothing is reserved.
   * `waitMs`: until a limit per minute has room again; unknown where agents have to end.
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
      // One that ended while they were read has given its slot back.
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

  /** Passes of `sweep` for as long as there is more to wake, and for about `ms` at most. */
  async *sweeps(ms: number): AsyncGenerator<DispatchEntry[]> {
    const begun = performance.now();
    do yield await this.sweep();
    while (this.isFull && performance.now() - begun < ms);
  }

  /** One bounded pass: gives back what nothing uses. Returns attempts to hand over. */
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
      // One that was granted later than now is from before the clock was set back: nobody knows how old it is.
      if (at < now - UNUSED_MS || at > now) slots.push(`${fields[i]} ${g}`);
    }
    return [...woken, ...(await this.freeUnused(slots))];
  }

  /** Those that may still start. The others were cancelled or claimed since they were woken, and wait no more. */
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
    // An attempt that started counts as a start for its minute, although it has ended.
    for (const how of ['ended', 'unstarted'] as const) {
      const gone = looks.flatMap((look) => textsOf(look[how]));
      if (gone.length > 0) woken.push(...(await this.free(gone, how)));
    }
    return woken;
  }
}

/** An empty Lua table is an object, not a list. */
const textsOf = (list: unknown): string[] => (Array.isArray(list) ? (list as string[]) : []);
const entriesOf = (list: unknown): DispatchEntry[] =>
  textsOf(list).map((text) => JSON.parse(text) as DispatchEntry);
