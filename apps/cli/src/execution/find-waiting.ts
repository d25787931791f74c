import type { BelayClient } from '#libs/client';
import type { ExecutionRecord, NodeRecord } from '#libs/contracts';
import { whatWaits, type Waiting } from './waiting';

/** Ready nodes that are read of one execution: their reasons are few. */
const NODES_READ = 200;

/** Whether the execution has work that could run, and does not. */
export function isWaiting({ state, nodes }: ExecutionRecord): boolean {
  return state === 'running' && nodes.ready > 0;
}

/**
 * Why ready nodes of those executions do not start, by the execution's id. Executions whose nodes can start are left out. Reads
 * the workers and the latches once, and only where a node waits.
 */
export async function findWaiting(
  client: BelayClient,
  records: readonly ExecutionRecord[],
  /** The nodes of an execution, if they have been read already. */
  nodesOf: (record: ExecutionRecord) => Promise<readonly NodeRecord[]> = async (record) =>
    await readyNodes(client, record),
): Promise<Map<string, Waiting[]>> {
  const waiting = records.filter(isWaiting);
  const found = new Map<string, Waiting[]>();
  if (waiting.length === 0) return found;
  const [workers, latches] = await Promise.all([client.workers(), client.latches()]);
  for (const record of waiting) {
    const nodes = await nodesOf(record);
    const reasons = whatWaits(record, nodes, workers.items, latches.items);
    if (reasons.length > 0) found.set(record.id, reasons);
  }
  return found;
}

/** A page is filtered by state, so it may be empty although later pages are not. */
async function readyNodes(
  client: BelayClient,
  { id, nodes: { ready } }: ExecutionRecord,
): Promise<NodeRecord[]> {
  const found: NodeRecord[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.nodes(id, {
      state: ['ready'],
      limit: 1_000,
      ...(cursor === undefined ? {} : { cursor }),
    });
    found.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined && found.length < Math.min(NODES_READ, ready));
  return found;
}
