import { createHash } from 'node:crypto';

const NODE_ID = /^[A-Za-z0-9_.-]{1,64}$/;
const MAX_LENGTH = 64;
const HASH_LENGTH = 8;
/** Names with a special meaning in JavaScript objects cannot be node ids. */
const REFUSED = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * Node ids for task ids, in their order. A task id that is a valid node id stays as it is. In any other id, invalid characters
 * are replaced, the id is shortened, and a hash of the whole is appended; a different hash where two ids would be equal. So no
 * two tasks share an id, and one file always gives the same ids.
 */
export function mapIds(taskIds: readonly string[]): Map<string, string> {
  const taken = new Set(taskIds.filter(isNodeId));
  const mapped = new Map<string, string>();
  for (const taskId of taskIds) {
    if (mapped.has(taskId)) continue;
    const nodeId = isNodeId(taskId) ? taskId : freeId(taskId, taken);
    taken.add(nodeId);
    mapped.set(taskId, nodeId);
  }
  return mapped;
}

const isNodeId = (id: string): boolean => NODE_ID.test(id) && !REFUSED.has(id);

function freeId(taskId: string, taken: ReadonlySet<string>): string {
  const head = taskId.replaceAll(/[^A-Za-z0-9_.-]/g, '_').slice(0, MAX_LENGTH - 1 - HASH_LENGTH);
  // Each turn has another hash, so with a bounded number of names some turn gives a free one.
  for (let turn = 0; ; turn++) {
    const hash = createHash('sha256').update(`${turn} ${taskId}`).digest('hex');
    const id = `${head}-${hash.slice(0, HASH_LENGTH)}`;
    if (!taken.has(id)) return id;
  }
}
