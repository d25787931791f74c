import type { Keyspace, Quarantine, Valkey } from '#libs/valkey';
import type { ShardScripts } from './shard-scripts';

/** Reads of one kind of record over the scripts' connection. Records that cannot be read go to the quarantine. */
export abstract class StoreReads {
  constructor(protected readonly scripts: ShardScripts) {}

  protected get keys(): Keyspace {
    return this.scripts.valkey.keys;
  }

  protected get redis(): Valkey['redis'] {
    return this.scripts.valkey.redis;
  }

  protected get quarantine(): Quarantine {
    return this.scripts.valkey.quarantine;
  }
}
