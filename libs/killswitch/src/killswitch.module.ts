import { Module } from '@nestjs/common';
import type { Grade } from '#libs/contracts';
import { DagExecutor } from '#libs/executions';
import { LifecycleService } from '#libs/lifecycle';
import { belayModule, ChangeFeed, madeFrom, Valkey } from '#libs/valkey';
import { DrillService, DrillStore } from './drill';
import { KillswitchService, type KillswitchOptions } from './killswitch.service';
import { ArmedService } from './armed.service';
import { ArmedStore } from './armed-store';
import { AuditStore } from './audit-store';
import { ControlSettings } from './control-settings';
import { LatchStore } from './latch-store';
import { LimitPolicy } from './limit-policy';
import { OrderStore } from './order-store';

export interface KillswitchModuleOptions extends KillswitchOptions {
  readonly retentionMs: number;
  /** The lowest grade of proof that counts. Default `marks`. */
  readonly proof?: Grade;
}

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  belayModule<KillswitchModuleOptions>('BelayKillswitch');

/** Gives `KillswitchService`, `DrillService`, `ArmedService`, `OrderStore`, `LatchStore`, `AuditStore` and `LimitPolicy`. Needs ExecutionsModule. */
@Module({
  providers: [
    {
      provide: OrderStore,
      inject: [Valkey, ControlSettings, LatchStore, MODULE_OPTIONS_TOKEN],
      useFactory: (
        valkey: Valkey,
        settings: ControlSettings,
        latches: LatchStore,
        { proof }: KillswitchModuleOptions,
      ) => new OrderStore(valkey, settings, latches, proof),
    },
    {
      provide: ControlSettings,
      inject: [Valkey, MODULE_OPTIONS_TOKEN],
      useFactory: (valkey: Valkey, { retentionMs }: KillswitchModuleOptions) =>
        new ControlSettings(valkey, retentionMs),
    },
    madeFrom(LatchStore, Valkey, ControlSettings),
    madeFrom(DrillStore, Valkey, ControlSettings),
    madeFrom(DrillService, LifecycleService, DagExecutor, KillswitchService, ChangeFeed, DrillStore),
    {
      provide: ArmedService,
      inject: [LifecycleService, Valkey, ChangeFeed],
      useFactory: (lifecycle: LifecycleService, valkey: Valkey, feed: ChangeFeed) =>
        new ArmedService(lifecycle, new ArmedStore(valkey), feed),
    },
    madeFrom(AuditStore, Valkey, ControlSettings),
    madeFrom(LimitPolicy, LifecycleService, ControlSettings),
    madeFrom(
      KillswitchService,
      LifecycleService,
      DagExecutor,
      OrderStore,
      LatchStore,
      ChangeFeed,
      MODULE_OPTIONS_TOKEN,
    ),
  ],
  exports: [KillswitchService, DrillService, ArmedService, OrderStore, LatchStore, AuditStore, LimitPolicy],
})
export class KillswitchModule extends ConfigurableModuleClass {}
