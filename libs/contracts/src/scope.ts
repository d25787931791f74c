import { BelayError } from './errors';
import type { AgentId, ExecutionId, WorkerId } from './ids';
import { formatSelector, parseSelector, selectorMatches, type Selector } from './selector';

/** The targets of an order. */
export type Scope =
  | { readonly type: 'all' }
  | { readonly type: 'pool'; readonly pool: string }
  /** The merged labels of the execution and of the node; where both have a key, the node's value counts. */
  | { readonly type: 'selector'; readonly selector: string }
  | { readonly type: 'worker'; readonly workerId: WorkerId }
  | { readonly type: 'execution'; readonly executionId: ExecutionId }
  | { readonly type: 'agent'; readonly agentId: AgentId };

/** Scopes that have no end of their own: an order for them reaches new agents until it is complete. */
export function isWide(scope: Scope): boolean {
  return scope.type !== 'execution' && scope.type !== 'agent';
}

/** One string for a scope, by which open orders are deduplicated. */
export function scopeKey(scope: Scope): string {
  switch (scope.type) {
    case 'all':
      return 'all';
    case 'pool':
      return `pool/${scope.pool}`;
    case 'selector':
      return `selector/${formatSelector(conditionsOf(scope.selector))}`;
    case 'worker':
      return `worker/${scope.workerId}`;
    case 'execution':
      return `execution/${scope.executionId}`;
    case 'agent':
      return `agent/${scope.agentId}`;
  }
}

/** The fields of an agent that scopes match. */
export interface AgentAddress {
  readonly agentId: AgentId;
  readonly executionId: ExecutionId;
  readonly workerId: WorkerId;
  /** Unknown until the claim. */
  readonly pool?: string | undefined;
  /** The merged labels of execution and node; unknown until the claim. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** Whether an order of this scope covers that agent. An unclaimed agent is in no pool and has no labels. */
export function scopeCovers(scope: Scope, agent: AgentAddress): boolean {
  switch (scope.type) {
    case 'all':
      return true;
    case 'pool':
      return scope.pool === agent.pool;
    case 'selector':
      return agent.labels !== undefined && selectorMatches(conditionsOf(scope.selector), agent.labels);
    case 'worker':
      return scope.workerId === agent.workerId;
    case 'execution':
      return scope.executionId === agent.executionId;
    case 'agent':
      return scope.agentId === agent.agentId;
  }
}

/** The conditions of a stored scope. They were checked on arrival, so a fault here is a corrupt record. */
export function conditionsOf(text: string): Selector {
  const { selector, problems } = parseSelector(text);
  if (selector === undefined)
    throw new BelayError('CORRUPT_RECORD', `The selector ${text} cannot be read.`, {
      problems: problems.map((problem) => ({ path: 'selector', ...problem })),
    });
  return selector;
}
