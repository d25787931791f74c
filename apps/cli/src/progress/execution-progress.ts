import {
  NODE_MACHINE,
  type AgentRecord,
  type BelayEvent,
  type ExecutionRecord,
  type NodeState,
} from '#libs/contracts';

export interface RunningNode {
  readonly nodeId: string;
  readonly attempt: number;
  /** The server's clock, milliseconds. */
  readonly since: number;
}

export interface EndedNode {
  readonly nodeId: string;
  readonly state: NodeState;
  readonly error?: string;
}

/** Ended nodes that are kept for the display. */
const REMEMBERED = 5;

/**
 * A watcher's knowledge of an execution. Counts and cost come from the record, which is exact. Names come from events, which may
 * be older than the record: applying an event twice changes nothing.
 */
export class ExecutionProgress {
  readonly running = new Map<string, RunningNode>();
  readonly ended: EndedNode[] = [];
  failures = 0;
  /** This machine's clock minus the server's, as events show it. */
  private skewMs: number | undefined;

  constructor(public record: ExecutionRecord) {}

  /** Agents that ran before the stream was opened. */
  seed(agents: readonly AgentRecord[]): void {
    for (const agent of agents) {
      if (agent.state !== 'running' && agent.state !== 'spawning') continue;
      const since = agent.startedAt ?? agent.createdAt;
      this.running.set(agent.nodeId, { nodeId: agent.nodeId, attempt: agent.attempt, since });
    }
  }

  apply(event: BelayEvent, now: number): EndedNode | undefined {
    // The smallest difference belongs to the least delayed event, so it is the best estimate of the clocks' difference.
    this.skewMs = Math.min(this.skewMs ?? Infinity, now - event.at);
    if (event.entity !== 'node' || event.nodeId === undefined || event.to === undefined) return undefined;
    const { nodeId } = event;
    if (event.to === 'running') {
      this.running.set(nodeId, { nodeId, attempt: event.attempt ?? 1, since: event.at });
      return undefined;
    }
    this.running.delete(nodeId);
    const state = NODE_MACHINE.ended.find((name) => name === event.to);
    if (state === undefined) return undefined;
    const ended = { nodeId, state, ...(event.error === undefined ? {} : { error: event.error.message }) };
    this.ended.push(ended);
    if (this.ended.length > REMEMBERED) this.ended.shift();
    if (state === 'failed') this.failures++;
    return ended;
  }

  /** The server's clock when this machine's shows `now`. */
  toServerTime(now: number): number {
    return now - (this.skewMs ?? 0);
  }
}
