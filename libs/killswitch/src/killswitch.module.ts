import { ConfigurableModuleBuilder, Module } from '@nestjs/common';
import type { Grade } from '#libs/contracts';
import { DagExecutor } from '#libs/executions';
import { LifecycleService } from '#libs/lifecycle';
import { ChangeFeed, MODULE_EXTRAS, Valkey, withExtras, type ModuleExtras } from '#libs/valkey';
import { DrillService, DrillStore } from './drill';
import { KillswitchService, type KillswitchOptions } from './killswitch.service';
import { ArmedService } from './armed.service';
import { ArmedStore } from './armed-store';
import { AuditStore } from './audit-store';
import { ControlSettings } from './control-settings';
import { LatchStore } from './latch-store';
import { OrderStore } from './order-store';

export interface KillswitchModuleOptions extends KillswitchOptions {
  readonly retentionMs: number;
  /** The least grade of a proof that counts. Default `marks`. */
  readonly proof?: Grade;
}

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<KillswitchModuleOptions>({ moduleName: 'BelayKillswitch' })
    .setClassMethodName('forRoot')
    .setExtras<ModuleExtras>(MODULE_EXTRAS, withExtras)
    .build();

/** Gives `KillswitchService`, `DrillService`, `ArmedService`, `OrderStore`, `LatchStore` and `AuditStore`. Needs ExecutionsModule. */
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
    {
      provide: LatchStore,
      inject: [Valkey, ControlSettings],
      useFactory: (valkey: Valkey, settings: ControlSettings) => new LatchStore(valkey, settings),
    },
    {
      provide: DrillStore,
      inject: [Valkey, ControlSettings],
      useFactory: (valkey: Valkey, settings: ControlSettings) => new DrillStore(valkey, settings),
    },
    {
      provide: DrillService,
      inject: [LifecycleService, DagExecutor, KillswitchService, ChangeFeed, DrillStore],
      useFactory: (
        lifecycle: LifecycleService,
        dag: DagExecutor,
        killswitch: KillswitchService,
        feed: ChangeFeed,
        store: DrillStore,
      ) => new DrillService(lifecycle, dag, killswitch, feed, store),
    },
    {
      provide: ArmedService,
      inject: [LifecycleService, Valkey, ChangeFeed],
      useFactory: (lifecycle: LifecycleService, valkey: Valkey, feed: ChangeFeed) =>
        new ArmedService(lifecycle, new ArmedStore(valkey), feed),
    },
    {
      provide: AuditStore,
      inject: [Valkey, ControlSettings],
      useFactory: (valkey: Valkey, settings: ControlSettings) => new AuditStore(valkey, settings),
    },
    {
      provide: KillswitchService,
      inject: [LifecycleService, DagExecutor, OrderStore, LatchStore, ChangeFeed, MODULE_OPTIONS_TOKEN],
      useFactory: (
        lifecycle: LifecycleService,
        dag: DagExecutor,
        orders: OrderStore,
        latches: LatchStore,
        feed: ChangeFeed,
        options: KillswitchModuleOptions,
      ) => new KillswitchService(lifecycle, dag, orders, latches, feed, options),
    },
  ],
  exports: [KillswitchService, DrillService, ArmedService, OrderStore, LatchStore, AuditStore],
})
export class KillswitchModule extends ConfigurableModuleClass {}
