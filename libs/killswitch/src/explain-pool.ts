import { NameSuggester, type DispatchEntry, type ScopeWarning } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { parseStored } from '#libs/valkey';

/** Attempts of a shard that are looked at. If more wait, the pool counts as known. */
const LOOKED_AT = 2_000;
/** A message lists at most this many pools. */
const MOST_TOLD = 10;

/**
 * The warning that no live worker serves a pool and no attempt waits for it, with the pool that may be meant. Undefined where a
 * worker does, or an attempt waits. Reads only.
 */
export async function explainPool(
  lifecycle: LifecycleService,
  pool: string,
): Promise<ScopeWarning | undefined> {
  const workers = await lifecycle.workers.list();
  // A pool of one worker alone is for its drills.
  const served = [...new Set(workers.flatMap(({ pools }) => pools))]
    .filter((name) => !name.startsWith('@'))
    .sort();
  if (served.includes(pool) || (await isAwaited(lifecycle, pool))) return undefined;
  const suggestion = new NameSuggester().nearest(pool, served);
  const more = served.length > MOST_TOLD ? `, and ${served.length - MOST_TOLD} more` : '';
  const known = served.length === 0 ? 'none' : served.slice(0, MOST_TOLD).join(', ') + more;
  const hint = suggestion === undefined ? '' : ` Did you mean ${suggestion}?`;
  return {
    code: 'NOTHING_MATCHED',
    message: `No live worker serves pool ${pool}, and no attempt waits for it. Served are: ${known}.${hint}`,
    ...(suggestion === undefined ? {} : { suggestion }),
  };
}

async function isAwaited({ valkey }: LifecycleService, pool: string): Promise<boolean> {
  const { redis, keys } = valkey;
  const shards = keys.tags().map(async (tag) => {
    const key = keys.shard(tag, 'outbox');
    if ((await redis.hlen(key)) > LOOKED_AT) return true;
    const entries = await redis.hvals(key);
    return entries.some((text) => parseStored<DispatchEntry>(key, text).pool === pool);
  });
  return (await Promise.all(shards)).includes(true);
}
