import { Module } from '@nestjs/common';
import { ControlSettings, LatchStore, OrderStore } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import { belayModule, madeFrom, Valkey } from '#libs/valkey';
import { Ownership } from './ownership';
import { TokenStore } from './token-store';

export interface AccessModuleOptions {
  readonly retentionMs: number;
  readonly onError?: (error: unknown) => void;
}

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<AccessModuleOptions>('BelayAccess');

/** Gives `TokenStore` and `Ownership`. Needs KillswitchModule. */
@Module({
  providers: [
    {
      provide: TokenStore,
      inject: [Valkey, MODULE_OPTIONS_TOKEN],
      useFactory: (valkey: Valkey, { retentionMs, onError }: AccessModuleOptions) =>
        new TokenStore(valkey, new ControlSettings(valkey, retentionMs), onError),
    },
    madeFrom(Ownership, LifecycleService, OrderStore, LatchStore),
  ],
  exports: [TokenStore, Ownership],
})
export class AccessModule extends ConfigurableModuleClass {}
