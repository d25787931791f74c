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

/** A list reads at most this many agents of each index and shard, the newest first. */
const MOST_LISTED = 5_000;

/** Reads agents, of one execution and across shards. Writes nothing. */
export class AgentReads extends StoreReads {
  /** How many agents are in a state, across all shards. The ended states share one count. */
  async countIn(state: AgentState): Promise<number> {
    return this.sizeOf((tag) => this.keys.agentsIn(tag, state));
  }

  /** How many lost attempts nobody has seen dead yet. */
  async countUnproved(): Promise<number> {
    return this.sizeOf((tag) => this.keys.shard(tag, 'unproved'));
  }

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

  /**
   * The live agents of one execution. An agent whose record cannot be read is listed by its id
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  async liveOf(executionId: string): Promise<AgentRecord[]> {
    const key = this.keys.execution(executionId, 'live');
    const ids = await this.quarantine.readable(key, async () => this.redis.smembers(key));
    return this.all(ids ?? []);
  }

  /**
   * The live agents that a worker owns, across all shards. An agent whose record cannot be read is listed by its id.
   */
  async ownedBy(workerId: string): Promise<AgentRecord[]> {
    const sets = await Promise.all(
      this.keys.tags().map((tag) => this.redis.smembers(this.keys.ownedBy(tag, workerId))),
    );
    return this.all(sets.flat(), workerId);
  }

  /** Every live agent of the fleet, without a limit, readable or not: a kill must name them all. */
  async liveEverywhere(): Promise<AgentRecord[]> {
    const lists = await Promise.all(
      this.keys
        .tags()
        .flatMap((tag) =>
          (['spawning', 'running'] as const).map(async (state) =>
            this.redis.zrange(this.keys.agentsIn(tag, state), 0, '-1'),
          ),
        ),
    );
    return this.all([...new Set(lists.flat())]);
  }

  /**
   * Lost attempts that nobody has seen dead yet, so that their processes may still run. `owner` narrows the list to
   * one worker.
   */
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

  /** The ids of the agents that an order ended. */
  async idsEndedBy(orderId: string): Promise<string[]> {
    const lists = await Promise.all(
      this.keys.tags().map(async (tag) => this.redis.smembers(this.keys.endedBy(tag, orderId))),
    );
    return lists.flat();
  }

  /** The count of all attempts that have begun, for each of those shards or for every shard (ADR 0015). */
  async beginnings(tags: readonly string[] = this.keys.tags()): Promise<Record<string, number>> {
    const counts = await Promise.all(
      tags.map(async (tag) => [tag, Number(await this.redis.get(this.keys.shard(tag, 'births')))] as const),
    );
    return Object.fromEntries(counts);
  }

  /** Agents of all shards and workers, newest first. */
  async list(query: AgentQuery = {}): Promise<AgentRecord[]> {
    return (await this.search(query)).agents.slice(0, query.limit ?? 200);
  }

  /**
   * Every agent that a list reads, newest first. `truncated`: there are more agents, and the oldest of them are left
   * out.
   */
  async search(query: AgentQuery = {}): Promise<{ agents: AgentRecord[]; truncated: boolean }> {
    let ids: string[];
    let truncated = false;
    if (query.executionId !== undefined)
      ids = await this.redis.hkeys(this.keys.execution(query.executionId, 'agents'));
    else {
      const states = query.states ?? (['spawning', 'running'] as const);
      const lists = await Promise.all(
        this.keys.tags().flatMap((tag) => {
          const indices = new Set(states.map((state) => this.keys.agentsIn(tag, state)));
          // One more than the list shows: its presence tells that there are more.
          return [...indices].map((index) => this.redis.zrevrange(index, 0, MOST_LISTED));
        }),
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

  /** Those agents that exist and whose records can be read. */
  async many(ids: readonly string[]): Promise<AgentRecord[]> {
    return (await this.read(ids)).filter((agent) => agent.unreadable !== true);
  }

  /**
   * Those agents that exist. An agent whose record cannot be read is listed by its id
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  async named(ids: readonly string[]): Promise<AgentRecord[]> {
    return this.read(ids);
  }

  /** As `named`, where the caller knows the owner. */
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
   * The facts that are kept about lost attempts of one execution after their records have expired. Belay keeps them
   * until an attempt is proved dead, and for a while after.
   */
  private async remains(ids: readonly string[]): Promise<(string | undefined)[]> {
    const tag = this.keys.tagOf(executionOf(ids[0] as string));
    const [unproved, proved] = await Promise.all([
      this.redis.hmget(this.keys.shard(tag, 'unproved:kept'), ...ids),
      this.redis.mget(ids.map((id) => this.keys.proved(tag, id))),
    ]);
    return ids.map((_, i) => unproved[i] ?? proved[i] ?? undefined);
  }

  /**
   * A record that cannot be read hides neither the other records nor itself
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  private decode(key: string, id: string, text: string): AgentRecord {
    try {
      return decodeAgent(key, executionOf(id), id, text);
    } catch (error) {
      void this.quarantine.note(error);
      return standIn(id, text);
    }
  }
}

/**
 * Takes the place of a record that cannot be read: the facts in the agent's id, and the owner if the text still names one.
 */
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

/** The owner is looked for in this many characters of a record that cannot be read. */
const SEARCHED = 65_536;
