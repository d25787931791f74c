import type { DrillResult } from '#libs/contracts';
import { retryTransient, type Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import type { ControlSettings } from '../control-settings';

/** A drill under way: who had it done, where, since when. */
export type BegunDrill = Pick<DrillResult, 'workerId' | 'host' | 'at' | 'by' | 'role' | 'requestId'> & {
  readonly hostile?: boolean;
};

/**
 * Drills kept per worker: the last one, written with its audit entry in one script. Those under way are kept too, so
 * that somebody notices when the orchestrator that ran one is gone.
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

  /** Enters a drill before anything of it is started. Answers its id. */
  async begin(drill: BegunDrill): Promise<string> {
    const id = ulid();
    await retryTransient(async () => this.valkey.redis.hset(this.begunKey, id, JSON.stringify(drill)));
    return id;
  }

  /** Drills under way, and drills that nobody will finish. */
  async begun(): Promise<ReadonlyMap<string, BegunDrill>> {
    const rows = await this.valkey.redis.hgetall(this.begunKey);
    return new Map(Object.entries(rows).map(([id, text]) => [id, JSON.parse(text) as BegunDrill]));
  }

  /** `noticed`: by somebody else, who found it unfinished; of many who do one tells it. */
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

  /** The last result of each worker it is kept for. */
  async last(hostile = false): Promise<ReadonlyMap<string, DrillResult>> {
    const rows = await this.valkey.redis.hgetall(this.keyOf(hostile));
    return new Map(Object.entries(rows).map(([id, text]) => [id, JSON.parse(text) as DrillResult]));
  }

  /** Workers that are no more. */
  async forget(workerIds: readonly string[]): Promise<void> {
    if (workerIds.length === 0) return;
    await this.valkey.redis.hdel(this.keyOf(false), ...workerIds);
    await this.valkey.redis.hdel(this.keyOf(true), ...workerIds);
  }
}
