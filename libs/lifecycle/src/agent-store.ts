import {
  type Containment,
  NotFoundError,
  parseAgentId,
  type AgentJob,
  type AgentRecord,
  type AgentState,
  type DispatchEntry,
  type Dropped,
  type LatchRefusal,
  type ExecutionState,
  type NodeSpec,
  type NodeState,
  type RecordedError,
  type StopReason,
  type StopReport,
} from '#libs/contracts';
import { parseStored, type ScriptReply } from '#libs/valkey';
import { decodeAgent, encodeReport } from './decode';
import type { StopRequest } from './execution-store';
import { accepted } from './refusals';
import type { ShardScripts } from './scope';

/** A worker's right to write: the claim's owner and fencing number. */
export interface Fence {
  readonly agentId: string;
  readonly owner: string;
  readonly epoch: number;
}

export type Claim =
  | {
      readonly claimed: true;
      readonly fence: Fence;
      /** Valkey's clock. */
      readonly claimedAt: number;
      /** Its number among all that has begun in its shard. */
      readonly born: number;
      readonly pool: string;
      /** The execution's and the node's together. */
      readonly labels: Readonly<Record<string, string>>;
      readonly executionName: string;
      readonly graceMs?: number;
      readonly previousId?: string;
      readonly node: ClaimedNode;
      readonly isRecovery: boolean;
      /** The last one an attempt before this said. */
      readonly lastCheckpoint?: unknown;
    }
  | {
      readonly claimed: false;
      readonly why: string;
      readonly state?: string;
      /** The latch that covers it, when `why` is LATCHED. */
      readonly latch?: LatchRefusal;
    };

/** A node's spec with how its policy counts. */
export type ClaimedNode = NodeSpec & { readonly priorAttempts?: number };

/** How an attempt ended. */
export interface AgentOutcome {
  readonly state: 'completed' | 'failed' | 'killed';
  readonly exitCode?: number;
  readonly signal?: string;
  readonly reason?: StopReason;
  readonly error?: RecordedError;
  readonly report?: StopReport;
  readonly costUsd?: number;
  readonly actor?: string;
  readonly orderId?: string;
  /** Nothing proves that it is dead: its worker's lease ran out. */
  readonly lost?: boolean;
  readonly result?: unknown;
  /** Milliseconds to wait before another attempt; absent: there is none. */
  readonly retryInMs?: number;
  /** The order stops the whole execution, not this agent alone. */
  readonly stop?: StopRequest;
}

/** The process that an attempt was started as. */
export interface StartedProcess {
  readonly pid: number;
  readonly pidStartTime: string;
  readonly containment: Containment;
}

export interface FinishResult {
  readonly state: ExecutionState;
  readonly node: NodeState;
  readonly entries: readonly DispatchEntry[];
  readonly more: boolean;
  /** The execution is stopping and other agents of it live: an order must reach them. */
  readonly stopNeeded: boolean;
  readonly repeated?: boolean;
}

/** A live agent's messages since the last report. Costs are totals over its life, so a repeated report adds nothing. */
export interface AgentSaid {
  readonly costUsd?: number;
  readonly progress?: unknown;
  readonly checkpoint?: unknown;
  readonly badLines?: number;
  /** Totals over its life. */
  readonly dropped?: Dropped;
  readonly events?: readonly SaidNow[];
}

/** An event, or that something was dropped; `n` counts up from 1 over the agent's life. */
export type SaidNow =
  | { readonly n: number; readonly name: string; readonly data?: unknown }
  | { readonly n: number; readonly dropped: Dropped };

export interface AgentQuery {
  readonly states?: readonly AgentState[];
  readonly owner?: string;
  readonly executionId?: string;
  readonly limit?: number;
}

/** Agents of an index and shard that a list reads, the newest. */
const MOST_LISTED = 5_000;
/** Dependants made ready inside the finishing script; the rest follow by advance. */
const RELEASE_BUDGET = 200;
/** A process that sleeps longer than this and wakes is no worker any more. */
const GONE_KEPT_MS = 30 * 24 * 3_600_000;
const micros = (usd: number | undefined) => (usd === undefined ? {} : { costMicros: Math.round(usd * 1e6) });

/** Agents: claim, start, report, finish; each one script, fenced by owner and epoch. */
export class AgentStore {
  constructor(private readonly scripts: ShardScripts) {}

  private get keys() {
    return this.scripts.valkey.keys;
  }

  private get redis() {
    return this.scripts.valkey.redis;
  }

  /** The only way an agent starts. Repeatable with the same token; a refusal is an answer, not an error. */
  async claim(job: AgentJob, workerId: string, token: string): Promise<Claim> {
    const reply = (await this.scripts.raw('claimNode', job.executionId, [
      job.nodeId,
      job.agentId,
      job.attempt,
      workerId,
      token,
    ])) as [string, string, string];
    const head = JSON.parse(reply[0]) as ScriptReply & {
      epoch: number;
      claimedAt: number;
      born: number;
      name: string;
      pool: string;
      labels?: Record<string, string>;
      graceMs?: number;
      previousId?: string;
      priorAttempts?: number;
      isRecovery?: boolean;
    };
    if (head.refused !== undefined) {
      const state = head['state'] as string | undefined;
      return {
        claimed: false,
        why: head.refused,
        ...(state === undefined ? {} : { state }),
        ...(head.refused === 'LATCHED' ? { latch: head as unknown as LatchRefusal } : {}),
      };
    }
    const key = this.keys.execution(job.executionId, 'specs');
    return {
      claimed: true,
      fence: { agentId: job.agentId, owner: workerId, epoch: head.epoch },
      claimedAt: head.claimedAt,
      born: head.born,
      pool: head.pool,
      labels: head.labels ?? {},
      executionName: head.name,
      ...(head.graceMs === undefined ? {} : { graceMs: head.graceMs }),
      ...(head.previousId === undefined ? {} : { previousId: head.previousId }),
      node: {
        ...parseStored<NodeSpec>(key, reply[1], job.nodeId),
        ...(head.priorAttempts === undefined ? {} : { priorAttempts: head.priorAttempts }),
      },
      isRecovery: head.isRecovery === true,
      ...(reply[2] === ''
        ? {}
        : { lastCheckpoint: parseStored(this.keys.execution(job.executionId, 'said'), reply[2]) }),
    };
  }

  /** spawning → running. `stopping` says that a stop has begun meanwhile: kill what was just spawned. */
  async started(
    fence: Fence,
    process: StartedProcess,
  ): Promise<{ stopping: boolean; orderId?: string; reason?: StopReason }> {
    const reply = await this.scripts.json('startAgent', executionOf(fence.agentId), [
      ...args(fence),
      JSON.stringify(process),
    ]);
    return accepted(reply, 'agent', fence.agentId);
  }

  /** Its tree stands still, or runs again. */
  async markFrozen(fence: Fence, frozen: boolean, orderId?: string): Promise<{ state: AgentState }> {
    const reply = await this.scripts.json('markFrozen', executionOf(fence.agentId), [
      ...args(fence),
      frozen ? 1 : 0,
      orderId ?? '',
    ]);
    return accepted(reply, 'agent', fence.agentId);
  }

  /** From here on no shard grants this worker a claim: what it owns now is all it ever will. */
  async banOwner(workerId: string): Promise<void> {
    const { scripts, keys } = this.scripts.valkey;
    await Promise.all(
      keys
        .tags()
        .map(async (tag) => scripts.run('banWorker', keys.shard(tag, 'gone'), [tag, workerId, GONE_KEPT_MS])),
    );
  }

  async report(fence: Fence, said: AgentSaid): Promise<{ overBudget: boolean }> {
    const events = (said.events ?? []).map((event) =>
      'name' in event && event.data !== undefined ? { ...event, data: JSON.stringify(event.data) } : event,
    );
    const reply = await this.scripts.json('reportAgent', executionOf(fence.agentId), [
      ...args(fence),
      JSON.stringify({ ...micros(said.costUsd), badLines: said.badLines, dropped: said.dropped }),
      JSON.stringify(events),
      said.progress === undefined ? '' : JSON.stringify(said.progress),
      said.checkpoint === undefined ? '' : JSON.stringify(said.checkpoint),
    ]);
    return accepted(reply, 'agent', fence.agentId);
  }

  /** The agent's end and all that follows from it, in one act (R2, R4). */
  async finish(fence: Fence, outcome: AgentOutcome): Promise<FinishResult> {
    const { result, retryInMs, stop, report, costUsd, ...rest } = outcome;
    const reply = await this.scripts.json('finishAgent', executionOf(fence.agentId), [
      ...args(fence),
      JSON.stringify({
        ...rest,
        ...micros(costUsd),
        ...(report === undefined ? {} : { report: encodeReport(report) }),
      }),
      result === undefined ? '' : JSON.stringify(result),
      retryInMs ?? -1,
      stop === undefined ? '' : JSON.stringify(stop),
      RELEASE_BUDGET,
    ]);
    const done = accepted<FinishResult>(reply, 'agent', fence.agentId);
    return Array.isArray(done.entries) ? done : { ...done, entries: [] };
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

  private get quarantine() {
    return this.scripts.valkey.quarantine;
  }

  /** Live agents of one execution; one that cannot be read stands in by its id (R31). */
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

  /** Evidence that came after the end was stored. False: it was not needed any more. */
  async prove(agentId: string, owner: string, report: StopReport): Promise<boolean> {
    const reply = await this.scripts.json('proveAgent', executionOf(agentId), [
      agentId,
      owner,
      encodeReport(report),
    ]);
    return accepted<{ proved: boolean }>(reply, 'agent', agentId).proved;
  }

  /** A person closed an order that names this lost attempt: nothing asks any more whether it is dead. Repeatable. */
  async writeOff(agentId: string, { orderId, by }: { orderId: string; by: string }): Promise<void> {
    await this.scripts.json('writeOffAgent', executionOf(agentId), [agentId, orderId, by]);
  }

  /** Agents that an order ended. */
  async endedBy(orderId: string): Promise<AgentRecord[]> {
    const lists = await Promise.all(
      this.keys.tags().map(async (tag) => this.redis.smembers(this.keys.shard(tag, `ended:${orderId}`))),
    );
    return this.many(lists.flat());
  }

  /** How much has begun so far in those shards, or in all. */
  async beginnings(tags: readonly string[] = this.keys.tags()): Promise<Record<string, number>> {
    const counts = await Promise.all(
      tags.map(async (tag) => [tag, Number(await this.redis.get(this.keys.shard(tag, 'births')))] as const),
    );
    return Object.fromEntries(counts);
  }

  /** Across all shards and workers (R24); newest first. */
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

  /** Those of them that are there; one that cannot be read stands in by its id (R31). */
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

  /** One record that cannot be read must not hide the others, nor itself (R31). */
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

const args = (fence: Fence) => [fence.agentId, fence.owner, fence.epoch] as const;

function executionOf(agentId: string): string {
  const parsed = parseAgentId(agentId);
  if (parsed === undefined) throw new NotFoundError('agent', agentId);
  return parsed.executionId;
}
