import { Module, type DynamicModule } from '@nestjs/common';
import type { Grade } from '#libs/contracts';
import { DagExecutor } from '#libs/executions';
import { LifecycleService } from '#libs/lifecycle';
import { ChangeFeed, Valkey } from '#libs/valkey';
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
  /** Whether anything of this process waits for events; default true. A worker does not, and parses none. */
  readonly followsEvents?: boolean;
}

/** Gives `KillswitchService`, `OrderStore`, `LatchStore`, `AuditStore` and `ChangeFeed`. Needs ExecutionsModule. */
@Module({})
export class KillswitchModule {
  static forRoot(options: KillswitchModuleOptions): DynamicModule {
    return {
      module: KillswitchModule,
      global: true,
      providers: [
        {
          provide: OrderStore,
          inject: [Valkey, ControlSettings, LatchStore],
          useFactory: (valkey: Valkey, settings: ControlSettings, latches: LatchStore) =>
            new OrderStore(valkey, settings, latches, options.proof),
        },
        {
          provide: ControlSettings,
          inject: [Valkey],
          useFactory: (valkey: Valkey) => new ControlSettings(valkey, options.retentionMs),
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
          provide: ChangeFeed,
          inject: [Valkey],
          useFactory: async (valkey: Valkey) => {
            const feed = new ChangeFeed(valkey);
            if (options.followsEvents !== false) await feed.start();
            return feed;
          },
        },
        {
          provide: KillswitchService,
          inject: [LifecycleService, DagExecutor, OrderStore, LatchStore, ChangeFeed],
          useFactory: (
            lifecycle: LifecycleService,
            dag: DagExecutor,
            orders: OrderStore,
            latches: LatchStore,
            feed: ChangeFeed,
          ) => new KillswitchService(lifecycle, dag, orders, latches, feed, options),
        },
      ],
      exports: [
        KillswitchService,
        DrillService,
        ArmedService,
        OrderStore,
        LatchStore,
        AuditStore,
        ChangeFeed,
      ],
    };
  }
}
