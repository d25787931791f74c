import type { ExecutionSpec, NodeSpec, StopReport } from '#libs/contracts';

/** A node with every default. */
export function node(id: string, over: Partial<NodeSpec> = {}): NodeSpec {
  return {
    id,
    dependsOn: [],
    run: { command: ['true'], env: {}, shell: false },
    pool: 'default',
    priority: 5,
    labels: {},
    maxAttempts: 1,
    backoff: { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 0 },
    allowFailure: false,
    onLostContact: 'stop',
    recovery: { auto: true },
    ...over,
  };
}

/** A spec of those nodes. */
export function spec(nodes: readonly NodeSpec[], over: Partial<ExecutionSpec> = {}): ExecutionSpec {
  return { name: 'test', labels: {}, onFailure: 'stop', nodes, ...over };
}

/** A stop that was proved, without further details. */
export function stopReport(over: Partial<StopReport> = {}): StopReport {
  return {
    containment: 'marks',
    proved: true,
    processes: [],
    signals: [],
    evidence: [],
    survivors: [],
    escalated: false,
    ...over,
  };
}
