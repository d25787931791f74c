import {
  conditionsOf,
  explainUnmatched,
  isEnded,
  isExecutionId,
  NotFoundError,
  AGENT_MACHINE,
  scopeCovers,
  parseAgentId,
  selectorMatches,
  type AgentRecord,
  type Reach,
  type Scope,
  type ScopeWarning,
} from '#libs/contracts';
import { knownLabels, type LifecycleService } from '#libs/lifecycle';
import { isCorrupt, parseStored } from '#libs/valkey';
import { within } from '#libs/service';
import { explainPool } from './explain-pool';

const LIVE_STATES = ['idle', 'running', 'paused', 'stopping'] as const;
/** Executions whose labels are read at a time. */
const BATCH = 500;
/** A warning is worth this much waiting. Milliseconds. */
const LOOK_UP_MS = 500;

/** The agents that a scope covers now. Reads only. */
export class ScopeResolver {
  constructor(private readonly lifecycle: LifecycleService) {}

  /** Checks that the thing which a scope names exists. @throws NotFoundError */
  async assertKnown(scope: Scope): Promise<void> {
    // A record that cannot be read exists, and its processes must be reached
    // (docs/architecture.md#a-record-that-cannot-be-read).
    await this.lookUp(scope).catch((error: unknown) => {
      if (!isCorrupt(error)) throw error;
    });
  }

  private async lookUp(scope: Scope): Promise<void> {
    if (scope.type === 'execution') await this.lookUpExecution(scope.executionId);
    else if (scope.type === 'agent') await this.lifecycle.agents.get(scope.agentId);
    else if (scope.type === 'worker')
      await this.lifecycle.workers.get(scope.workerId).catch(this.unlessLost(scope));
  }

  private async lookUpExecution(executionId: string): Promise<void> {
    const { redis, keys } = this.lifecycle.valkey;
    if (isExecutionId(executionId) && (await redis.exists(keys.execution(executionId))) === 1) return;
    await this.unlessLost({ type: 'execution', executionId })(new NotFoundError('execution', executionId));
  }

  /** The record may have expired although an attempt of it was never seen dead. */
  private unlessLost(scope: Scope): (error: unknown) => Promise<void> {
    return async (error) => {
      if (!(error instanceof NotFoundError)) throw error;
      if (!(await this.lifecycle.agents.unproved()).some((agent) => this.covers(scope, agent))) throw error;
    };
  }

  /**
   * A warning about labels or a pool that no known work has: a kill by a misspelt name must not look done. Undefined also where
   * the known names do not come in time, since an order does not wait for them. Never rejects.
   */
  async warningOf(scope: Scope): Promise<ScopeWarning | undefined> {
    const explained = this.explain(scope).catch(() => undefined);
    return within(explained, LOOK_UP_MS);
  }

  private async explain(scope: Scope): Promise<ScopeWarning | undefined> {
    if (scope.type === 'pool') return explainPool(this.lifecycle, scope.pool);
    if (scope.type !== 'selector') return undefined;
    return explainUnmatched(conditionsOf(scope.selector), await knownLabels(this.lifecycle.valkey));
  }

  /** The count of beginnings in the shard of the thing that the scope names. Undefined for a scope over all shards. */
  async reachOf(scope: Scope): Promise<Reach | undefined> {
    const { keys } = this.lifecycle.valkey;
    const executionId =
      scope.type === 'execution'
        ? scope.executionId
        : scope.type === 'agent'
          ? parseAgentId(scope.agentId)?.executionId
          : undefined;
    return executionId === undefined
      ? undefined
      : this.lifecycle.agents.beginnings([keys.tagOf(executionId)]);
  }

  /**
   * The epoch of the execution that a scope names: it rises with each retry. Undefined where the scope names none, or it cannot
   * be read.
   */
  async epochOf(scope: Scope): Promise<number | undefined> {
    if (scope.type !== 'execution') return undefined;
    const { redis, keys } = this.lifecycle.valkey;
    const epoch = await redis.hget(keys.execution(scope.executionId), 'epoch').catch((error: unknown) => {
      // The record has another type: its processes are reached all the same
      // (docs/architecture.md#a-record-that-cannot-be-read).
      if (String(error).includes('WRONGTYPE')) return null;
      throw error;
    });
    return epoch === null ? undefined : Number(epoch);
  }

  /** Agents not yet ended. */
  async liveAgents(scope: Scope): Promise<AgentRecord[]> {
    const { agents } = this.lifecycle;
    switch (scope.type) {
      case 'execution':
        return agents.liveOf(scope.executionId);
      case 'worker':
        return agents.ownedBy(scope.workerId);
      case 'agent':
        // An agent without a record is not live. An order for it must still come to its end.
        return (await agents.named([scope.agentId])).filter((agent) => !isEnded(AGENT_MACHINE, agent.state));
      case 'all':
        return agents.liveEverywhere();
      case 'pool':
      case 'selector':
        return (await agents.liveEverywhere()).filter((agent) => this.covers(scope, agent));
    }
  }

  covers(scope: Scope, { id, executionId, owner, pool, labels = {} }: AgentRecord): boolean {
    return scopeCovers(scope, { agentId: id, executionId, workerId: owner, pool, labels });
  }

  /**
   * Live executions that a scope covers as a whole. A pool or a worker covers none: their nodes run elsewhere too. With an
   * order, the executions whose agents it has ended already are included, since their workers heard it first.
   */
  async executions(scope: Scope, orderId?: string): Promise<string[]> {
    if (scope.type === 'execution') return [scope.executionId];
    if (scope.type !== 'all' && scope.type !== 'selector') return [];
    // In this order: an execution that leaves the first list in between is in the second.
    const live = await this.liveExecutions();
    const ended = orderId === undefined ? [] : await this.executionsEndedBy(orderId);
    const ids = [...new Set([...live, ...ended])];
    return scope.type === 'all' ? ids : this.matching(scope.selector, ids);
  }

  private async executionsEndedBy(orderId: string): Promise<string[]> {
    const agents = await this.lifecycle.agents.idsEndedBy(orderId);
    return agents.flatMap((id) => parseAgentId(id)?.executionId ?? []);
  }

  private async liveExecutions(): Promise<string[]> {
    const { redis, keys } = this.lifecycle.valkey;
    const lists = await Promise.all(
      keys
        .tags()
        .flatMap((tag) =>
          LIVE_STATES.map(async (state) => redis.zrange(keys.executionsIn(tag, state), 0, '-1')),
        ),
    );
    return lists.flat();
  }

  private async matching(selector: string, ids: readonly string[]): Promise<string[]> {
    const conditions = conditionsOf(selector);
    const found: string[] = [];
    for (let i = 0; i < ids.length; i += BATCH) {
      const batch = ids.slice(i, i + BATCH);
      const labels = await Promise.all(batch.map(async (id) => this.labelsOf(id)));
      found.push(
        ...batch.filter((_, at) => {
          const known = labels[at];
          return known !== undefined && selectorMatches(conditions, known);
        }),
      );
    }
    return found;
  }

  /** Undefined where the labels cannot be read: the workers know the labels of their agents. */
  private async labelsOf(executionId: string): Promise<Record<string, string> | undefined> {
    const { redis, keys, quarantine } = this.lifecycle.valkey;
    const key = keys.execution(executionId);
    return quarantine.readable(key, async () =>
      parseStored<Record<string, string>>(key, (await redis.hget(key, 'labels')) ?? '{}', 'labels'),
    );
  }
}
