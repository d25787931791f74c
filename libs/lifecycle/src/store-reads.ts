import type { Keyspace, Quarantine, Valkey } from '#libs/valkey';
import type { ShardScripts } from './shard-scripts';

/** Reads of one kind of record over the scripts' connection. Records that cannot be read go to the quarantine. */
export abstract class StoreReads {
  constructor(protected readonly scripts: ShardScripts) {}

  protected get keys(): Keyspace {
    return this.scripts.valkey.keys;
  }

  /** The sizes of an index, one of each shard, added up. */
  protected async sizeOf(indexOf: (tag: string) => string): Promise<number> {
    const sizes = await Promise.all(this.keys.tags().map(async (tag) => this.redis.zcard(indexOf(tag))));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  protected get redis(): Valkey['redis'] {
    return this.scripts.valkey.redis;
  }

  protected get quarantine(): Quarantine {
    return this.scripts.valkey.quarantine;
  }
}
