import { randomUUID } from 'node:crypto';
import type { Valkey } from './valkey';

/**
 * Background jobs that one process at a time does, for each slot's keys. It saves doing them twice; it does not make them
 * safe: a holder that slept goes on, so whatever is done in a turn is a repeatable script.
 */
export class Turns {
  private readonly owner = randomUUID();
  private readonly held = new Set<string>();

  constructor(
    private readonly valkey: Valkey,
    private readonly job: string,
    /** How long a turn holds when it is not renewed. Milliseconds. */
    private readonly holdMs: number,
  ) {}

  /** Takes or renews the turn in `tag`. The fencing number grows with every new turn; undefined: another process has it. */
  async take(tag: string): Promise<number | undefined> {
    const { held, fence } = await this.call(tag, this.holdMs);
    if (held) this.held.add(tag);
    else this.held.delete(tag);
    return held ? fence : undefined;
  }

  /** Gives back what is held, so that nobody has to wait for it to run out. */
  async giveBack(): Promise<void> {
    const tags = [...this.held];
    this.held.clear();
    await Promise.all(tags.map(async (tag) => this.call(tag, 0)));
  }

  private async call(tag: string, holdMs: number): Promise<{ held: boolean; fence: number }> {
    const { keys, scripts } = this.valkey;
    const reply = await scripts.json('takeTurn', keys.shard(tag, `turn:${this.job}`), [
      tag,
      this.job,
      this.owner,
      holdMs,
    ]);
    return reply as unknown as { held: boolean; fence: number };
  }
}
