import { Module, type DynamicModule } from '@nestjs/common';
import { DagExecutor } from '#libs/executions';
import { LifecycleService } from '#libs/lifecycle';
import { ChangeFeed, Valkey } from '#libs/valkey';
import { KillswitchService, type KillswitchOptions } from './killswitch.service';
import { OrderStore } from './order-store';

export interface KillswitchModuleOptions extends KillswitchOptions {
  readonly retentionMs: number;
}

/** Gives `KillswitchService`, `OrderStore` and `ChangeFeed`. Needs ExecutionsModule. */
@Module({})
export class KillswitchModule {
  static forRoot(options: KillswitchModuleOptions): DynamicModule {
    return {
      module: KillswitchModule,
      global: true,
      providers: [
        {
          provide: OrderStore,
          inject: [Valkey],
          useFactory: (valkey: Valkey) => new OrderStore(valkey, options.retentionMs),
        },
        {
          provide: ChangeFeed,
          inject: [Valkey],
          useFactory: async (valkey: Valkey) => {
            const feed = new ChangeFeed(valkey);
            await feed.start();
            return feed;
          },
        },
        {
          provide: KillswitchService,
          inject: [LifecycleService, DagExecutor, OrderStore, ChangeFeed],
          useFactory: (lifecycle: LifecycleService, dag: DagExecutor, orders: OrderStore, feed: ChangeFeed) =>
            new KillswitchService(lifecycle, dag, orders, feed, options),
        },
      ],
      exports: [KillswitchService, OrderStore, ChangeFeed],
    };
  }
}
