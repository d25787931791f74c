import { BelayError } from '#libs/contracts';
import type { Server } from './connection';
import type { Keyspace } from './keyspace';

/**
 * The shard count is chosen once, at the first start, and kept: with another count every execution would be looked
 * for in the wrong place. @throws BelayError SHARD_MISMATCH
 */
export async function assertShardCount(redis: Server, keys: Keyspace): Promise<void> {
  const key = `${keys.control}:settings`;
  await redis.hsetnx(key, 'shards', String(keys.shards));
  const stored = await redis.hget(key, 'shards');
  if (stored !== String(keys.shards)) {
    throw new BelayError(
      'SHARD_MISMATCH',
      `This server was set up with ${stored} shards, but BELAY_SHARDS is ${keys.shards}. Set BELAY_SHARDS=${stored}.`,
    );
  }
}
