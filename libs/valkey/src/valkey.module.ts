import { Module, type DynamicModule } from '@nestjs/common';
import { ChangeFeed } from './change-feed';
import { belayModule } from './belay-module';
import { Valkey, type ValkeyOptions } from './valkey';

export interface ValkeyModuleOptions extends Pick<ValkeyOptions, 'url' | 'patienceMs' | 'onTrouble'> {
  /** First part of every key. Default `belay`. */
  readonly keyPrefix?: string;
  /** The fleet's shard count. Default 4. */
  readonly shards?: number;
  /** Whether this application waits for events; default true. A worker does not wait for any, and parses none. */
  readonly followsEvents?: boolean;
}

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<ValkeyModuleOptions>('BelayValkey');

/** Gives `Valkey`, open, and `ChangeFeed`. Both are closed with the application. */
@Module({
  providers: [
    {
      provide: Valkey,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: async (options: ValkeyModuleOptions) =>
        new Valkey({ keyPrefix: 'belay', shards: 4, ...options }).open(),
    },
    {
      provide: ChangeFeed,
      inject: [Valkey, MODULE_OPTIONS_TOKEN],
      useFactory: async (valkey: Valkey, { followsEvents = true }: ValkeyModuleOptions) => {
        const feed = new ChangeFeed(valkey);
        if (followsEvents) await feed.start();
        return feed;
      },
    },
  ],
  exports: [Valkey, ChangeFeed],
})
export class ValkeyModule extends ConfigurableModuleClass {
  /** A module of a `Valkey` that is open already; its opener closes it. For every module of the application. */
  static of(valkey: Valkey, { followsEvents = true } = {}): DynamicModule {
    const { url, keyPrefix, shards } = valkey.options;
    return {
      module: ValkeyModule,
      global: true,
      providers: [
        { provide: MODULE_OPTIONS_TOKEN, useValue: { url, keyPrefix, shards, followsEvents } },
        { provide: Valkey, useValue: valkey },
      ],
    };
  }
}
