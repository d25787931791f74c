import type { Containment, Isolation } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';

const ANSWERS_KEPT_MS = 60_000;

/** A worker's report about its guard. */
export interface GuardAnswer {
  readonly containment: Containment;
  readonly isolation: Isolation;
  /** The guardian process beside the worker runs and answers. */
  readonly guardian: boolean;
  readonly running: number;
}

/** A nonce that takes the way of the orders, and the answer of every guard to it (docs/killswitch.md#before-you-need-it). */
export class ArmedStore {
  constructor(private readonly valkey: Valkey) {}

  /** Asks every guard that hears the doorbell to answer. */
  async ask(nonce: string): Promise<void> {
    const { redis, keys } = this.valkey;
    await redis.publish(keys.doorbellChannel, JSON.stringify({ ask: nonce }));
  }

  /** Stores a guard's answer for a short time. */
  async answer(nonce: string, workerId: string, answer: GuardAnswer): Promise<void> {
    const { scripts, keys } = this.valkey;
    await scripts.run('answerArmed', this.key(nonce), [
      keys.control,
      workerId,
      JSON.stringify(answer),
      ANSWERS_KEPT_MS,
      keys.eventsChannel,
    ]);
  }

  async answers(nonce: string): Promise<ReadonlyMap<string, GuardAnswer>> {
    const rows = await this.valkey.redis.hgetall(this.key(nonce));
    return new Map(Object.entries(rows).map(([id, text]) => [id, JSON.parse(text) as GuardAnswer]));
  }

  private key(nonce: string): string {
    return this.valkey.keys.armed(nonce);
  }
}
