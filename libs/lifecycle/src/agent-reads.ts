import { NotFoundError, parseAgentId, type AgentRecord, type AgentState } from '#libs/contracts';
import { parseStored } from '#libs/valkey';
import { decodeAgent } from './decode';
import { executionOf } from './execution-of';
import { StoreReads } from './store-reads';

export interface AgentQuery {
  readonly states?: readonly AgentState[];
  readonly owner?: string;
  readonly executionId?: string;
  readonly limit?: number;
}

/** Agents of an index and shard that a list reads, the newest. */
const MOST_LISTED = 5_000;

/** Reads agents, of one execution and across shards. Writes nothing. */
export class AgentReads extends StoreReads {
  /** @throws NotFoundError */
  async get(agentId: string): Promise<AgentRecord> {
    const parsed = parseAgentId(agentId);
    if (parsed === undefined) throw new NotFoundError('agent', agentId);
    const key = this.keys.execution(parsed.executionId, 'agents');
    const agent = await this.quarantine.reading(key, async () => {
      const text = (await this.redis.hget(key, agentId)) ?? (await this.remains([agentId]))[0];
      if (text === undefined) throw new NotFoundError('agent', agentId);
      return decodeAgent(key, parsed.executionId, agentId, text);
    });
    return { ...agent, ...(await this.saidBy(agent)) };
  }

  /** The agent's fields that are stored beside the record because they may be large. */
  private async saidBy({ id, executionId, checkpointOf }: AgentRecord & { checkpointOf?: string }) {
    const key = this.keys.execution(executionId, 'said');
    const [progress, checkpoint] = await this.quarantine.reading(key, async () =>
      this.redis.hmget(key, `p:${id}`, `c:${checkpointOf ?? id}`),
    );
    return {
      ...(typeof progress !== 'string' ? {} : { progress: parseStored(key, progress, id) }),
      ...(typeof checkpoint !== 'string' ? {} : { checkpoint: parseStored(key, checkpoint, id) }),
    };
  }

  /** Live agents of one execution; one that cannot be read stands in by its id (requirement R31). */
  async liveOf(executionId: string): Promise<AgentRecord[]> {
    const key = this.keys.execution(executionId, 'live');
    const ids = await this.quarantine.readable(key, async () => this.redis.smembers(key));
    return this.all(ids ?? []);
  }

  /** Live agents a worker owns, across all shards; one that cannot be read stands in by its id. */
  async ownedBy(workerId: string): Promise<AgentRecord[]> {
    const sets = await Promise.all(
      this.keys.tags().map((tag) => this.redis.smembers(this.keys.shard(tag, `own:${workerId}`))),
    );
    return this.all(sets.flat(), workerId);
  }

  /** Every live agent of the fleet, without a limit, readable or not: a kill must name them all. */
  async liveEverywhere(): Promise<AgentRecord[]> {
    const lists = await Promise.all(
      this.keys
        .tags()
        .flatMap((tag) =>
          ['spawning', 'running'].map(async (state) =>
            this.redis.zrange(this.keys.shard(tag, `idx:agt:${state}`), 0, '-1'),
          ),
        ),
    );
    return this.all([...new Set(lists.flat())]);
  }

  /** Lost attempts nobody has seen dead yet; `owner` narrows. They may still run. */
  async unproved(owner?: string): Promise<AgentRecord[]> {
    const lists = await Promise.all(
      this.keys.tags().map(async (tag) => this.redis.zrange(this.keys.shard(tag, 'unproved'), 0, '-1')),
    );
    const records = await this.many(lists.flat());
    return owner === undefined ? records : records.filter((agent) => agent.owner === owner);
  }

  /** Agents that an order ended. */
  async endedBy(orderId: string): Promise<AgentRecord[]> {
    return this.many(await this.idsEndedBy(orderId));
  }

  /** Their ids alone. */
  async idsEndedBy(orderId: string): Promise<string[]> {
    const lists = await Promise.all(
      this.keys.tags().map(async (tag) => this.redis.smembers(this.keys.shard(tag, `ended:${orderId}`))),
    );
    return lists.flat();
  }

  /** How much has begun so far in those shards, or in all. */
  async beginnings(tags: readonly string[] = this.keys.tags()): Promise<Record<string, number>> {
    const counts = await Promise.all(
      tags.map(async (tag) => [tag, Number(await this.redis.get(this.keys.shard(tag, 'births')))] as const),
    );
    return Object.fromEntries(counts);
  }

  /** Across all shards and workers (requirement R24); newest first. */
  async list(query: AgentQuery = {}): Promise<AgentRecord[]> {
    return (await this.search(query)).agents.slice(0, query.limit ?? 200);
  }

  /** All that a list reads, newest first. `truncated`: there are more, and the oldest of them are left out. */
  async search(query: AgentQuery = {}): Promise<{ agents: AgentRecord[]; truncated: boolean }> {
    let ids: string[];
    let truncated = false;
    if (query.executionId !== undefined)
      ids = await this.redis.hkeys(this.keys.execution(query.executionId, 'agents'));
    else {
      const states = query.states ?? (['spawning', 'running'] as const);
      const indices = new Set(
        states.map((s) => (s === 'spawning' || s === 'running' ? `idx:agt:${s}` : 'idx:agt:ended')),
      );
      const lists = await Promise.all(
        this.keys.tags().flatMap((tag) =>
          // One more than is listed: whether there are more must be told.
          [...indices].map((index) => this.redis.zrevrange(this.keys.shard(tag, index), 0, MOST_LISTED)),
        ),
      );
      truncated = lists.some((list) => list.length > MOST_LISTED);
      ids = lists.flatMap((list) => list.slice(0, MOST_LISTED));
    }
    const records = await this.many(ids);
    const agents = records
      .filter((agent) => query.states === undefined || query.states.includes(agent.state))
      .filter((agent) => query.owner === undefined || agent.owner === query.owner)
      .sort((a, b) => b.createdAt - a.createdAt);
    return { agents, truncated };
  }

  /** Those of them that are there and can be read. */
  async many(ids: readonly string[]): Promise<AgentRecord[]> {
    return (await this.read(ids)).filter((agent) => agent.unreadable !== true);
  }

  /** Those of them that are there; one that cannot be read stands in by its id (requirement R31). */
  async named(ids: readonly string[]): Promise<AgentRecord[]> {
    return this.read(ids);
  }

  /** The same, of an owner that is known. */
  private async all(ids: readonly string[], owner = ''): Promise<AgentRecord[]> {
    const found = await this.read(ids);
    return found.map((agent) => (agent.unreadable === true && owner !== '' ? { ...agent, owner } : agent));
  }

  private async read(ids: readonly string[]): Promise<AgentRecord[]> {
    const byExecution = new Map<string, string[]>();
    for (const id of ids) {
      const executionId = executionOf(id);
      const group = byExecution.get(executionId);
      if (group === undefined) byExecution.set(executionId, [id]);
      else group.push(id);
    }
    const found = await Promise.all(
      [...byExecution].map(async ([executionId, group]) => {
        const key = this.keys.execution(executionId, 'agents');
        const texts = await this.quarantine.readable(key, async () => this.redis.hmget(key, ...group));
        if (texts === undefined) return group.map((id) => standIn(id, ''));
        const gone = group.filter((_, i) => texts[i] === null);
        const kept = gone.length === 0 ? [] : await this.remains(gone);
        return group.flatMap((id, i) => {
          const text = texts[i] ?? kept[gone.indexOf(id)];
          return text === undefined ? [] : [this.decode(key, id, text)];
        });
      }),
    );
    return found.flat();
  }

  /**
   * The stored facts about lost attempts of one execution whose records have expired: kept until they are proved, and a
   * while after.
   */
  private async remains(ids: readonly string[]): Promise<(string | undefined)[]> {
    const tag = this.keys.tagOf(executionOf(ids[0] as string));
    const [unproved, proved] = await Promise.all([
      this.redis.hmget(this.keys.shard(tag, 'unproved:kept'), ...ids),
      this.redis.mget(ids.map((id) => this.keys.shard(tag, `proved:${id}`))),
    ]);
    return ids.map((_, i) => unproved[i] ?? proved[i] ?? undefined);
  }

  /** One record that cannot be read must not hide the others, nor itself (requirement R31). */
  private decode(key: string, id: string, text: string): AgentRecord {
    try {
      return decodeAgent(key, executionOf(id), id, text);
    } catch (error) {
      void this.quarantine.note(error);
      return standIn(id, text);
    }
  }
}

/** Of a record that cannot be read: what its id says, and its owner where the text still does. */
function standIn(id: string, text: string): AgentRecord {
  const { executionId, index, attempt } = parseAgentId(id) as NonNullable<ReturnType<typeof parseAgentId>>;
  const owner = /"owner":"(wrk_\w+)"/.exec(text.slice(0, SEARCHED))?.[1] ?? '';
  return {
    id,
    executionId,
    nodeId: `#${index}`,
    state: 'running',
    version: 0,
    epoch: 0,
    attempt,
    owner,
    pool: '',
    createdAt: 0,
    costUsd: 0,
    unreadable: true,
  };
}

/** Characters of a record that cannot be read in which its owner is looked for. */
const SEARCHED = 65_536;
