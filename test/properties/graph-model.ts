import type { ExecutionState, NodeState, StopReason } from '#libs/contracts';

/**
 * A model of an execution by DESIGN.md §4 and the documents, without Valkey, steps or pieces: when an act returns, all its
 * consequences have happened. The product reaches the same state in bounded steps.
 */
export interface ModelNode {
  readonly id: string;
  readonly dependsOn: readonly string[];
  readonly maxAttempts: number;
  readonly allowFailure: boolean;
  readonly pool: string;
  state: NodeState;
  /** The last attempt that became ready. */
  attempt: number;
  /** The last attempt before the last retry by hand: the policy counts from there. */
  prior: number;
  result?: string;
  /** Its agent was killed alone, and not because the execution stopped: its dependants see a failure. */
  killed?: boolean;
}

export interface ModelAgent {
  readonly nodeId: string;
  readonly attempt: number;
  readonly owner: string;
  state: 'spawning' | 'running' | 'completed' | 'failed' | 'killed';
  cents: number;
  /** It ended with its worker, and nobody saw it dead. */
  unproved: boolean;
}

export type Latched =
  { readonly type: 'all' | 'execution' } | { readonly type: 'pool'; readonly pool: string };

/** How an attempt ends: `never` fails in a way that no other attempt can mend, `lost` with its worker. */
export type End = 'completed' | 'failed' | 'never' | 'killed' | 'lost';

const DONE: readonly NodeState[] = ['completed', 'failed', 'skipped', 'cancelled'];

export class GraphModel {
  state: ExecutionState = 'idle';
  epoch = 1;
  frozen = false;
  reason: StopReason | undefined;
  latches: Latched[] = [];
  readonly agents = new Map<string, ModelAgent>();
  private failedForGood = false;
  /** An agent was killed, and the execution goes on. */
  private killed = false;

  constructor(
    readonly nodes: readonly ModelNode[],
    readonly onFailure: 'stop' | 'continue',
    readonly maxCents: number,
  ) {}

  node(id: string): ModelNode {
    const found = this.nodes.find((node) => node.id === id);
    if (found === undefined) throw new Error(`no node ${id}`);
    return found;
  }

  get ended(): boolean {
    return ['completed', 'stopped', 'failed'].includes(this.state);
  }

  get live(): [string, ModelAgent][] {
    return [...this.agents].filter(([, { state }]) => state === 'spawning' || state === 'running');
  }

  get cents(): number {
    return [...this.agents.values()].reduce((sum, { cents }) => sum + cents, 0);
  }

  /** Whether a latch covers the whole execution. */
  get latchedWhole(): boolean {
    return this.latches.some(({ type }) => type !== 'pool');
  }

  /** Whether no node could start: a latch covers the whole execution, or each of its nodes has one. */
  private get latchedStart(): boolean {
    return this.latchedWhole || this.nodes.every((node) => this.isLatched(node));
  }

  private isLatched({ pool }: ModelNode): boolean {
    return this.latches.some((latch) => latch.type !== 'pool' || latch.pool === pool);
  }

  start(): string {
    if (this.state === 'running') return 'NOTHING';
    if (this.state !== 'idle') return 'INVALID_TRANSITION';
    if (this.latchedStart) return 'LATCHED';
    this.state = 'running';
    this.settle();
    return 'ok';
  }

  claim(nodeId: string, attempt: number, owner: string, agentId: string): string {
    const node = this.node(nodeId);
    if (this.state !== 'running') return 'NOT_RUNNING';
    if (node.state !== 'ready' || node.attempt !== attempt) return 'TAKEN';
    if (this.isLatched(node)) return 'LATCHED';
    node.state = 'running';
    this.agents.set(agentId, { nodeId, attempt, owner, state: 'spawning', cents: 0, unproved: false });
    return 'ok';
  }

  /** Results of a node's dependencies, for the claim's answer. */
  upstream(nodeId: string): Record<string, string> {
    const known = this.node(nodeId).dependsOn.map((id) => [id, this.node(id).result] as const);
    return Object.fromEntries(known.filter(([, result]) => result !== undefined)) as Record<string, string>;
  }

  /** Whether another attempt follows: the policy counts from the last retry by hand. */
  hasAnother(agentId: string, end: End): boolean {
    const agent = this.agents.get(agentId)!;
    const node = this.node(agent.nodeId);
    return (end === 'failed' || end === 'lost') && agent.attempt - node.prior < node.maxAttempts;
  }

  finish(agentId: string, end: End, result: string): string {
    const agent = this.agents.get(agentId)!;
    const node = this.node(agent.nodeId);
    if (end === 'completed' && agent.state !== 'running') return 'INVALID_TRANSITION';
    const another = this.hasAnother(agentId, end);
    agent.state = end === 'completed' || end === 'killed' ? end : 'failed';
    agent.unproved = end === 'lost';
    if (end === 'completed') {
      node.state = 'completed';
      node.result = result;
    } else if (end === 'killed') {
      node.state = 'cancelled';
      if (this.state !== 'stopping') this.killed = node.killed = true;
      if (this.onFailure === 'stop') this.beginStop('killswitch');
    } else if (another && this.state !== 'stopping') {
      node.state = 'ready';
      node.attempt++;
    } else {
      node.state = 'failed';
      // A paused execution ends when it is resumed; a running one ends by itself when none of its nodes is left.
      if (!node.allowFailure && this.onFailure === 'stop' && this.anythingLeft) {
        if (this.state !== 'stopping') this.failedForGood = true;
        this.beginStop('error');
      }
    }
    this.settle();
    return 'ok';
  }

  report(agentId: string, cents: number): void {
    const agent = this.agents.get(agentId)!;
    // Costs are totals: a report that is not higher than before spends nothing, and passes no budget.
    if (cents <= agent.cents) return;
    agent.cents = cents;
    if (this.cents > this.maxCents) this.beginStop('budget_exceeded');
    this.settle();
  }

  stop(reason: StopReason): 'begun' | 'already' {
    if (this.state === 'stopping' || this.ended) return 'already';
    this.beginStop(reason);
    this.settle();
    return 'begun';
  }

  pause(mode: 'drain' | 'freeze'): string {
    if (this.state !== 'running' && this.state !== 'paused') return 'INVALID_TRANSITION';
    this.state = 'paused';
    if (mode === 'freeze') this.frozen = true;
    return 'ok';
  }

  resume(): string {
    if (this.state === 'running') return 'NOTHING';
    if (this.state !== 'paused') return 'INVALID_TRANSITION';
    if (this.latchedWhole) return 'LATCHED';
    this.state = 'running';
    this.frozen = false;
    this.settle();
    return 'ok';
  }

  retry(force: boolean): string {
    if (this.state !== 'stopped' && this.state !== 'failed') return 'INVALID_TRANSITION';
    if (!force && [...this.agents.values()].some(({ unproved }) => unproved)) return 'NOT_PROVED';
    if (this.latchedStart) return 'LATCHED';
    this.state = 'running';
    this.epoch++;
    this.reason = undefined;
    this.frozen = false;
    this.failedForGood = false;
    this.killed = false;
    for (const node of this.nodes) {
      if (node.state === 'completed') continue;
      node.state = 'pending';
      node.killed = false;
      node.prior = node.attempt;
    }
    this.settle();
    return 'ok';
  }

  /** @param undecided the product is still stopping: this proof comes before the end that it was missing for. */
  prove(agentId: string, undecided: boolean): void {
    this.agents.get(agentId)!.unproved = false;
    if (undecided && this.ended) this.state = this.endOfStop;
  }

  private get endOfStop(): 'failed' | 'stopped' {
    const isUnproved = [...this.agents.values()].some(({ unproved }) => unproved);
    return this.failedForGood || isUnproved ? 'failed' : 'stopped';
  }

  private get anythingLeft(): boolean {
    return this.nodes.some(({ state }) => !DONE.includes(state));
  }

  private beginStop(reason: StopReason): void {
    if (this.state === 'stopping' || this.ended) return;
    this.state = 'stopping';
    this.reason = reason;
    this.frozen = false;
  }

  /**
   * Does everything that follows by itself, until nothing more does. A paused execution goes on when it is resumed, or stopped.
   */
  private settle(): void {
    if (this.state === 'paused') return;
    for (let moved = true; moved;) {
      moved = false;
      for (const node of this.nodes.filter(({ state }) => state === 'pending')) {
        const before = node.dependsOn.map((id) => this.node(id));
        if (
          before.some(
            ({ state, allowFailure, killed }) =>
              state === 'skipped' || killed === true || (state === 'failed' && !allowFailure),
          )
        )
          node.state = 'skipped';
        else if (this.state === 'stopping' || this.state === 'idle') continue;
        else if (before.every(({ state }) => DONE.includes(state))) {
          node.state = 'ready';
          node.attempt++;
        }
        moved ||= node.state !== 'pending';
      }
    }
    if (this.state === 'stopping')
      for (const node of this.nodes)
        if (node.state === 'pending' || node.state === 'ready') node.state = 'cancelled';
    if (this.live.length > 0) return;
    if (this.state === 'stopping') this.state = this.endOfStop;
    else if (this.state === 'running' && this.nodes.every(({ state }) => DONE.includes(state))) {
      const good = this.nodes.every(
        ({ state, allowFailure }) => state === 'completed' || (state === 'failed' && allowFailure),
      );
      this.state = good ? 'completed' : 'failed';
      if (!good) this.reason = this.killed ? 'killswitch' : 'error';
    }
  }
}
