import { type AgentRecord, type Order, type Reach, type Scope, type ScopeWarning } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { AT_A_TIME } from './best-effort';
import type { ScopeResolver } from './scope-resolver';
import { withinReach } from './within-reach';

export interface DryRun {
  readonly targets: readonly { agentId: string; executionId: string; nodeId: string; workerId: string }[];
  readonly executions: readonly string[];
  /** The warning about labels or a pool that no work has. */
  readonly warning?: ScopeWarning;
}

/** The agents that an order reaches. Reads only. */
export class OrderTargets {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly scopes: ScopeResolver,
  ) {}

  /** The agents that an order for that scope would reach now. Changes nothing. @throws NotFoundError */
  async plan(scope: Scope): Promise<DryRun> {
    await this.scopes.assertKnown(scope);
    const executions = await this.scopes.executions(scope);
    const live = await this.scopes.liveAgents(scope);
    const whole = scope.type === 'selector' ? await this.liveOf(executions) : [];
    const agents = new Map([...live, ...whole].map((agent) => [agent.id, agent]));
    return {
      targets: [...agents.values()].map(({ id, executionId, nodeId, owner }) => ({
        agentId: id,
        executionId,
        nodeId,
        workerId: owner,
      })),
      executions,
      ...(await this.warn(scope, agents.size + executions.length)),
    };
  }

  /** The warning about labels or a pool, when the order found nothing. */
  async warn(scope: Scope, found: number): Promise<{ warning?: ScopeWarning }> {
    const warning = found > 0 ? undefined : await this.scopes.warningOf(scope);
    return warning === undefined ? {} : { warning };
  }

  /**
   * The agents for which an order needs a confirmation: the live ones, then those that it ended before they could be read. An
   * order takes agents within its reach, or of an execution that it stops or freezes; an execution that was retried since is
   * neither. While a wide order is open, workers name the agents that they claim later.
   */
  async named(order: Order, executions: readonly string[], reach: Reach): Promise<AgentRecord[]> {
    const { keys } = this.lifecycle.valkey;
    const inScope = new Set(executions);
    // In this order on the shard's connection: an agent that leaves the first list in between is in the second.
    const [live, whole, ended, unproved] = await Promise.all([
      this.scopes.liveAgents(order.scope),
      // A node's labels may exclude it from a selector that includes its execution. An execution that was stopped or frozen as
      // a whole has all its agents in.
      order.scope.type === 'selector' ? this.liveOf(executions) : [],
      this.lifecycle.agents.endedBy(order.id),
      order.kind === 'kill' ? this.lifecycle.agents.unproved() : [],
    ]);
    const wasThere = (agent: AgentRecord): boolean =>
      order.scope.type === 'agent' ||
      inScope.has(agent.executionId) ||
      // An order that is carried out is open. So without a count of the shard the agent is named: without it the receipt could
      // be complete while the agent lives.
      withinReach(reach, keys.tagOf(agent.executionId), agent.born) !== 'no';
    const named = new Map<string, AgentRecord>();
    for (const agent of [...live, ...whole]) if (wasThere(agent)) named.set(agent.id, agent);
    for (const agent of ended) named.set(agent.id, agent);
    // Attempts that were lost with their worker and never seen dead may still run, so no receipt is complete without them.
    for (const agent of unproved)
      if (this.scopes.covers(order.scope, agent) || inScope.has(agent.executionId))
        named.set(agent.id, agent);
    return [...named.values()];
  }

  /** Fails if one of the reads fails: an execution that could not be read is not one without live agents. */
  private async liveOf(executions: readonly string[]): Promise<AgentRecord[]> {
    const found: AgentRecord[] = [];
    for (let i = 0; i < executions.length; i += AT_A_TIME) {
      const some = executions.slice(i, i + AT_A_TIME);
      found.push(...(await Promise.all(some.map(async (id) => this.lifecycle.agents.liveOf(id)))).flat());
    }
    return found;
  }
}
