import type { DrillResult } from '#libs/contracts';
import { retryTransient, type Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import type { ControlSettings } from '../control-settings';

/** A drill under way: its actor, its worker, its time. */
export type BegunDrill = Pick<DrillResult, 'workerId' | 'host' | 'at' | 'by' | 'role' | 'requestId'> & {
  readonly hostile?: boolean;
};

/**
 * The last drill of each worker, written with its audit entry in one script. Drills under way are stored too, so that another
 * orchestrator notices when the one that ran a drill is gone.
 */
export class DrillStore {
  constructor(
    private readonly valkey: Valkey,
    private readonly settings: ControlSettings,
  ) {}

  private keyOf(hostile: boolean): string {
    return this.valkey.keys.shard(this.valkey.keys.control, hostile ? 'drills:hostile' : 'drills');
  }

  private get begunKey(): string {
    return this.valkey.keys.shard(this.valkey.keys.control, 'drills:begun');
  }

  /** Stores a drill before any part of it starts. Resolves with its id. */
  async begin(drill: BegunDrill): Promise<string> {
    const id = ulid();
    await retryTransient(async () => this.valkey.redis.hset(this.begunKey, id, JSON.stringify(drill)));
    return id;
  }

  /** Drills under way, including those that nobody will finish. */
  async begun(): Promise<ReadonlyMap<string, BegunDrill>> {
    const rows = await this.valkey.redis.hgetall(this.begunKey);
    return new Map(Object.entries(rows).map(([id, text]) => [id, JSON.parse(text) as BegunDrill]));
  }

  /** Stores a result. `noticed`: another process found the drill unfinished; of several such processes one reports it. */
  async save(id: string, result: DrillResult, { noticed = false } = {}): Promise<void> {
    const { keys, scripts } = this.valkey;
    await scripts.run('saveDrill', this.keyOf(result.attacks !== undefined), [
      keys.control,
      result.workerId,
      this.settings.text,
      JSON.stringify(result),
      id,
      noticed ? 1 : 0,
    ]);
  }

  /** The last result of each worker that has one. */
  async last(hostile = false): Promise<ReadonlyMap<string, DrillResult>> {
    const rows = await this.valkey.redis.hgetall(this.keyOf(hostile));
    return new Map(Object.entries(rows).map(([id, text]) => [id, JSON.parse(text) as DrillResult]));
  }

  /** Removes the drills of workers that are gone. */
  async forget(workerIds: readonly string[]): Promise<void> {
    if (workerIds.length === 0) return;
    await this.valkey.redis.hdel(this.keyOf(false), ...workerIds);
    await this.valkey.redis.hdel(this.keyOf(true), ...workerIds);
  }
}
