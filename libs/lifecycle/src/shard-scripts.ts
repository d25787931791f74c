import type { Grade, Retention } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { findCorrupt } from './find-corrupt';

/** Bounds and times that every call of a shard script gets. */
export interface LifecycleOptions extends Pick<Retention, 'retentionMs' | 'maxStateBytes'> {
  /** An execution keeps at most this many events. */
  readonly executionEvents?: number;
  /** A shard's list of the latest changes of all its executions keeps at most about this many. */
  readonly shardChanges?: number;
  /** A stop that rests on a lower grade of proof is not called done. Default: any grade will do. */
  readonly proof?: Grade;
}

/** Calls a shard script for one execution, with key, tag, id and settings. */
export class ShardScripts {
  private readonly settings: string;

  constructor(
    readonly valkey: Valkey,
    readonly options: LifecycleOptions,
  ) {
    this.settings = JSON.stringify({
      channel: valkey.keys.eventsChannel,
      executionEvents: options.executionEvents ?? 200_000,
      shardChanges: options.shardChanges ?? 10_000,
      retentionMs: options.retentionMs,
    });
  }

  json(
    name: Parameters<Valkey['scripts']['json']>[0],
    executionId: string,
    args: readonly (string | number)[] = [],
  ) {
    const { keys, scripts } = this.valkey;
    return this.telling(executionId, args, async () =>
      scripts.json(name, keys.execution(executionId), [
        keys.tagOf(executionId),
        executionId,
        this.settings,
        ...args,
      ]),
    );
  }

  raw(
    name: Parameters<Valkey['scripts']['run']>[0],
    executionId: string,
    args: readonly (string | number)[],
  ) {
    const { keys, scripts } = this.valkey;
    return this.telling(executionId, args, async () =>
      scripts.run(name, keys.execution(executionId), [
        keys.tagOf(executionId),
        executionId,
        this.settings,
        ...args,
      ]),
    );
  }

  /**
   * When a script fails on an unreadable record, lists that record and names it in the error
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  private async telling<T>(
    executionId: string,
    args: readonly (string | number)[],
    call: () => Promise<T>,
  ): Promise<T> {
    try {
      return await call();
    } catch (error) {
      const found = await findCorrupt(this.valkey, executionId, args, error);
      await this.valkey.quarantine.note(found);
      throw found ?? error;
    }
  }
}
