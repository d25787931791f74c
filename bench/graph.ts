import type { ExecutionSpec, NodeSpec } from '#libs/contracts';

function node(id: string, dependsOn: readonly string[]): NodeSpec {
  return {
    id,
    dependsOn,
    run: { command: ['true'], env: {}, shell: false },
    pool: 'default',
    priority: 5,
    labels: {},
    maxAttempts: 1,
    backoff: { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 0 },
    allowFailure: false,
    onLostContact: 'stop',
  };
}

/** `count` nodes without edges. */
export function agentSpec(count: number): ExecutionSpec {
  return {
    name: 'bench',
    labels: {},
    onFailure: 'stop',
    nodes: Array.from({ length: count }, (_, i) => node(`n${i}`, [])),
  };
}

/** Layers of `width`; each node waits for two of the layer before. */
export function layeredSpec(count: number, width: number): ExecutionSpec {
  const nodes = Array.from({ length: count }, (_, i) =>
    node(`n${i}`, i < width ? [] : [`n${i - width}`, `n${i - (i % width) - width + ((i + 1) % width)}`]),
  );
  return { name: 'bench', labels: {}, onFailure: 'stop', nodes };
}
