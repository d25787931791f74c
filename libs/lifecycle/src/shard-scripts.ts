import type { Grade, Retention } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { findCorrupt } from './find-corrupt';

/** Bounds and times the shard scripts get with every call. */
export interface LifecycleOptions extends Pick<Retention, 'retentionMs' | 'maxStateBytes'> {
  /** Most events kept of an execution. */
  readonly executionEvents?: number;
  /** A stop that rests on a proof of a lower grade is not called done. Default: any proof will do. */
  readonly proof?: Grade;
}

/** Calls one shard script for one execution: key, tag, id and settings filled in. */
export class ShardScripts {
  private readonly settings: string;

  constructor(
    readonly valkey: Valkey,
    readonly options: LifecycleOptions,
  ) {
    this.settings = JSON.stringify({
      channel: valkey.keys.eventsChannel,
      executionEvents: options.executionEvents ?? 200_000,
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

  /** A script that met a record it cannot read is a corrupt record, listed and named (requirement R31). */
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
