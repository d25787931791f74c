import { DEFAULT_BACKOFF, type ExecutionSpec, type NodeLimits, type NodeRun, type NodeSpec } from '../spec';
import { type ParsedAgent, type ParsedHead, type ParsedNode } from './spec-schema';

type Present<T, K extends keyof T> = { [P in K]?: Exclude<T[P], undefined> };

/** The named fields that have a value: an absent field stays absent, and is never `undefined`. */
function present<T extends object, K extends keyof T>(from: T, ...keys: readonly K[]): Present<T, K> {
  const kept: Present<T, K> = {};
  for (const key of keys) {
    const value = from[key];
    if (value !== undefined) kept[key] = value as Exclude<T[K], undefined>;
  }
  return kept;
}

/** A checked execution and its checked nodes in the stored form: every default written out. */
export function normalizeExecution(head: ParsedHead, nodes: readonly NodeSpec[]): ExecutionSpec {
  return {
    name: head.name,
    labels: head.labels,
    ...present(head, 'idempotencyKey', 'timeoutMs', 'maxCostUsd', 'softCostUsd', 'maxTokens', 'softTokens'),
    onFailure: head.onFailure,
    ...present(head, 'graceMs'),
    nodes,
  };
}

/** A checked node in the stored form. */
export function normalizeNode(node: ParsedNode): NodeSpec {
  const { backoff } = node;
  return {
    id: node.id,
    dependsOn: node.dependsOn,
    run: normalizeRun(node.run),
    ...present(node, 'input'),
    pool: node.pool,
    priority: node.priority,
    labels: node.labels,
    ...present(node, 'delayMs'),
    maxAttempts: node.maxAttempts,
    ...(node.retryOn === 'lost' ? { retryOn: node.retryOn } : {}),
    backoff: {
      type: backoff.type,
      delayMs: backoff.delayMs,
      // A long first delay alone must not exceed a default cap.
      maxMs: backoff.maxMs ?? Math.max(DEFAULT_BACKOFF.maxMs, backoff.delayMs),
      jitter: backoff.jitter,
    },
    ...present(node, 'timeoutMs', 'graceMs'),
    ...limitsOf(node.limits),
    allowFailure: node.allowFailure,
    onLostContact: node.onLostContact,
    recovery: {
      auto: node.recovery.auto,
      ...(node.recovery.withinMs === undefined ? {} : { withinMs: node.recovery.withinMs }),
    },
  };
}

/** For a checked run, which has one of the two. */
function normalizeRun(run: ParsedNode['run']): NodeRun {
  const { command = [], env, shell, handler } = run;
  return handler === undefined ? { command, env, ...present(run, 'cwd'), shell } : { handler };
}

function limitsOf(limits: ParsedNode['limits']): { limits?: NodeLimits } {
  if (limits === undefined) return {};
  const kept = present(limits, 'memoryMb', 'cpus', 'pids');
  return Object.keys(kept).length === 0 ? {} : { limits: kept };
}

/** A checked one-node execution: both get the labels, and the node gets deadline and grace. */
export function normalizeAgent(agent: ParsedAgent): ExecutionSpec {
  return {
    name: agent.name ?? agent.id,
    labels: agent.labels,
    ...present(agent, 'idempotencyKey', 'maxCostUsd', 'softCostUsd', 'maxTokens', 'softTokens'),
    onFailure: 'stop',
    nodes: [normalizeNode({ ...agent, dependsOn: [] })],
  };
}
