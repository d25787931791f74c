import type { ExecutionSpec, NodeSpec } from '#libs/contracts';

/** A node with every default, for tests. */
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

/** A spec of those nodes, for tests. */
export function spec(nodes: readonly NodeSpec[], over: Partial<ExecutionSpec> = {}): ExecutionSpec {
  return { name: 'test', labels: {}, onFailure: 'stop', nodes, ...over };
}
