import { Module } from '@nestjs/common';
import { belayModule, madeFrom, Valkey } from '#libs/valkey';
import { LifecycleService } from './lifecycle.service';
import type { LifecycleOptions } from './shard-scripts';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<LifecycleOptions>('BelayLifecycle');

/** Gives `LifecycleService`. Needs ValkeyModule. */
@Module({
  providers: [madeFrom(LifecycleService, Valkey, MODULE_OPTIONS_TOKEN)],
  exports: [LifecycleService],
})
export class LifecycleModule extends ConfigurableModuleClass {}
