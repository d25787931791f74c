import type { DrillResult } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import type { ControlSettings } from '../control-settings';

/** Drills kept per worker: the last one. Written with its audit entry in one script. */
export class DrillStore {
  constructor(
    private readonly valkey: Valkey,
    private readonly settings: ControlSettings,
  ) {}

  private get key(): string {
    return this.valkey.keys.shard(this.valkey.keys.control, 'drills');
  }

  async save(result: DrillResult): Promise<void> {
    const { keys, scripts } = this.valkey;
    await scripts.run('saveDrill', this.key, [
      keys.control,
      result.workerId,
      this.settings.text,
      JSON.stringify(result),
    ]);
  }

  /** The last result of each worker it is kept for. */
  async last(): Promise<ReadonlyMap<string, DrillResult>> {
    const rows = await this.valkey.redis.hgetall(this.key);
    return new Map(Object.entries(rows).map(([id, text]) => [id, JSON.parse(text) as DrillResult]));
  }

  /** Workers that are no more. */
  async forget(workerIds: readonly string[]): Promise<void> {
    if (workerIds.length > 0) await this.valkey.redis.hdel(this.key, ...workerIds);
  }
}
