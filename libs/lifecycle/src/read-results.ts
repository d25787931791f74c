import { OutcomeUnknownError } from '#libs/contracts';
import { isTransient, parseStored, retryTransient, refusalOf, type Valkey } from '#libs/valkey';

/** Nodes asked about in one go. */
const NODES_AT_ONCE = 500;
/** Bytes of one reply: more would hold the server, and the reader's event loop, and fill its memory with what is on its way. */
const PIECE_BYTES = 256 * 1024;

/** A node's id and its result as it is stored: JSON text that was parsed once, so it is sound. */
export type StoredResult = readonly [nodeId: string, json: string];

/**
 * The results of those nodes that have one, in that order, in pieces of about a quarter of a mebibyte. They do not change any more: a
 * node that may read them waits until all of them are done.
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

/** Groups of at most PIECE_BYTES, or one that is larger by itself; without those that have no result. */
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
