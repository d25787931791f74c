import { BelayError } from '#libs/contracts';
import type { Server } from './connection';
import type { Keyspace } from './keyspace';

/**
 * Checks the shard count, which is chosen at the first start and kept: with another count every execution would be looked for
 * in the wrong place. @throws BelayError SHARD_MISMATCH
 */
export async function assertShardCount(redis: Server, keys: Keyspace): Promise<void> {
  const key = keys.shard(keys.control, 'settings');
  // A server whose memory is full takes no new field, and a process must still be able to start on it.
  let stored = await redis.hget(key, 'shards');
  if (stored === null) {
    await redis.hsetnx(key, 'shards', String(keys.shards));
    stored = await redis.hget(key, 'shards');
  }
  if (stored !== String(keys.shards)) {
    throw new BelayError(
      'SHARD_MISMATCH',
      `This server was set up with ${stored} shards, but BELAY_SHARDS is ${keys.shards}. Set BELAY_SHARDS=${stored}.`,
    );
  }
}
