import { OutcomeUnknownError } from '#libs/contracts';
import { isTransient, parseStored, retryTransient, refusalOf, type Valkey } from '#libs/valkey';

/** Nodes in one request. */
const NODES_AT_ONCE = 500;
/** Bytes of one reply. A larger one would block the server and the reader's event loop, and fill the reader's memory. */
const PIECE_BYTES = 256 * 1024;

/** A node's id and its stored result: JSON text that was parsed before it was stored. */
export type StoredResult = readonly [nodeId: string, json: string];

/**
 * The results of those nodes that have one, in that order, in pieces of about 256 KiB. The results are final: a node
 * may read them only when all of those nodes are done.
 * @throws OutcomeUnknownError when the server stays away · BelayError CORRUPT_RECORD
 */
export async function* readResults(
  { redis, keys, quarantine }: Valkey,
  executionId: string,
  nodeIds: readonly string[],
): AsyncGenerator<readonly StoredResult[]> {
  const key = keys.execution(executionId, 'results');
  const ask = async <T>(act: () => Promise<T>): Promise<T> => {
    try {
      return await retryTransient(async () => quarantine.reading(key, act));
    } catch (error) {
      throw isTransient(error)
        ? new OutcomeUnknownError('the read of results', error, refusalOf(error))
        : error;
    }
  };
  for (let at = 0; at < nodeIds.length; at += NODES_AT_ONCE) {
    const group = nodeIds.slice(at, at + NODES_AT_ONCE);
    const sizes = await ask(async () =>
      Promise.all(group.map(async (id) => [id, await redis.hstrlen(key, id)] as const)),
    );
    for (const ids of inPieces(sizes)) {
      const texts = await ask(async () => redis.hmget(key, ...ids));
      yield ids.flatMap((id, i): StoredResult[] => {
        const text = texts[i];
        if (text === null || text === undefined) return [];
        parseStored(key, text, id);
        return [[id, text]];
      });
    }
  }
}

/** Groups nodes with results: each group takes at most PIECE_BYTES, or is one node with a larger result. */
function inPieces(sizes: readonly (readonly [id: string, bytes: number])[]): string[][] {
  const pieces: string[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const [id, size] of sizes) {
    if (size === 0) continue;
    if (bytes + size > PIECE_BYTES) {
      pieces.push([]);
      bytes = 0;
    }
    pieces.at(-1)?.push(id);
    bytes += size;
  }
  return pieces;
}
