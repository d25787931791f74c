import { parseStored, type Valkey } from '#libs/valkey';

/** This many of a shard's newest executions are looked at for labels. */
const LOOKED_AT = 1_000;

/**
 * The labels of the newest kept executions of each shard, live or ended, and of those nodes that have labels of their
 * own. At most four commands a shard.
 */
export async function knownLabels(valkey: Valkey): Promise<Record<string, string>[]> {
  const { redis, keys } = valkey;
  const shards = keys.tags().map(async (tag) => {
    const ids = await redis.zrevrange(keys.shard(tag, 'idx:exe'), 0, LOOKED_AT - 1);
    if (ids.length === 0) return [];
    const [ofExecutions, ofNodes] = [keys.shard(tag, 'idx:labels'), keys.shard(tag, 'idx:node-labels')];
    const [executions, nodes] = await Promise.all([
      redis.hmget(ofExecutions, ...ids),
      redis.hmget(ofNodes, ...ids),
    ]);
    return [
      ...executions.map((text) => toLabels(parseStored<string[]>(ofExecutions, text ?? '[]'))),
      ...nodes.flatMap((text) => parseStored<Record<string, string>[]>(ofNodes, text ?? '[]')),
    ];
  });
  return (await Promise.all(shards)).flat();
}

/** Reads `k=v` pairs. A key has no `=`. */
function toLabels(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}
