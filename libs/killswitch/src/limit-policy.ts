import { roleOf, type LimitRule, type LimitsRecord, type Signature } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { ulid } from 'ulid';
import type { ControlSettings } from './control-settings';

/** The fleet's limits as a person sets them: one record, in the audit log, copied to every shard. */
export class LimitPolicy {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly settings: ControlSettings,
  ) {}

  async get(): Promise<LimitsRecord> {
    return this.lifecycle.slots.describe();
  }

  /**
   * Replaces all limits; none lifts them. Resolves when every shard has them and the running agents are counted: from then on
   * no claim exceeds a limit. Agents above a lower limit run to their end.
   */
  async set(
    limits: readonly LimitRule[],
    said: Signature & { readonly note?: string },
  ): Promise<LimitsRecord> {
    const { valkey, slots, agents } = this.lifecycle;
    const { keys, scripts } = valkey;
    const { by, note = '' } = said;
    const args = [
      keys.control,
      ulid(),
      this.settings.text,
      JSON.stringify(limits),
      by,
      note,
      JSON.stringify(roleOf(said)),
      await slots.newestCopy(),
    ];
    await scripts.json('setLimits', keys.shard(keys.control, 'limits'), args);
    // If this process dies before the count, the janitor counts. Until then no attempt gets a slot.
    await slots.count(async () => agents.liveEverywhere());
    return this.get();
  }
}
