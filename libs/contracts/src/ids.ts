/** Ids carry their kind: `exe_`, `agt_`, `wrk_`, `ord_`, `lat_` before 26 characters of a ULID (time-ordered). */
export type ExecutionId = string;
export type AgentId = string;
export type WorkerId = string;
export type OrderId = string;
export type LatchId = string;

export const ULID_PATTERN = '[0-9A-HJKMNP-TV-Z]{26}';
const EXECUTION = new RegExp(`^exe_(${ULID_PATTERN})$`);
const AGENT = new RegExp(`^agt_(${ULID_PATTERN})-(0|[1-9][0-9]{0,5})-([1-9][0-9]{0,5})$`);
const WORKER = new RegExp(`^wrk_(${ULID_PATTERN})$`);
const ORDER = new RegExp(`^ord_(${ULID_PATTERN})$`);
const LATCH = new RegExp(`^lat_(${ULID_PATTERN})$`);
/** The form of each kind of id. */
export const ID_PATTERNS = {
  execution: EXECUTION,
  agent: AGENT,
  worker: WORKER,
  order: ORDER,
  latch: LATCH,
} as const;

export const isExecutionId = (id: string): boolean => EXECUTION.test(id);
export const isAgentId = (id: string): boolean => AGENT.test(id);
export const isWorkerId = (id: string): boolean => WORKER.test(id);
export const isOrderId = (id: string): boolean => ORDER.test(id);
export const isLatchId = (id: string): boolean => LATCH.test(id);

/**
 * The id of one attempt at one node. It is derived, not drawn, so that a repeated script names the same agent, and a BullMQ job
 * that is added twice is one job. `index` is the node's place in its spec, `attempt` counts from 1.
 */
export function agentIdOf(executionId: ExecutionId, index: number, attempt: number): AgentId {
  return `agt_${executionId.slice(4)}-${index}-${attempt}`;
}

/** The parts of an agent id; undefined for any other text. */
export function parseAgentId(
  id: AgentId,
): { executionId: ExecutionId; index: number; attempt: number } | undefined {
  const match = AGENT.exec(id);
  if (match === null) return undefined;
  return { executionId: `exe_${match[1]}`, index: Number(match[2]), attempt: Number(match[3]) };
}

/** FNV-1a (32 bit) of the id: stable across versions and languages, as the shard count is for life. */
export function shardOf(executionId: ExecutionId, shards: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < executionId.length; i++) {
    hash ^= executionId.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  return (hash >>> 0) % shards;
}
