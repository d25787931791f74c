import { ConfigurableModuleBuilder, Module } from '@nestjs/common';
import { MODULE_EXTRAS, Valkey, withExtras, type ModuleExtras } from '#libs/valkey';
import { LifecycleService } from './lifecycle.service';
import type { LifecycleOptions } from './scope';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = new ConfigurableModuleBuilder<LifecycleOptions>({
  moduleName: 'BelayLifecycle',
})
  .setClassMethodName('forRoot')
  .setExtras<ModuleExtras>(MODULE_EXTRAS, withExtras)
  .build();

/** Gives `LifecycleService`. Needs ValkeyModule. */
@Module({
  providers: [
    {
      provide: LifecycleService,
      inject: [Valkey, MODULE_OPTIONS_TOKEN],
      useFactory: (valkey: Valkey, options: LifecycleOptions) => new LifecycleService(valkey, options),
    },
  ],
  exports: [LifecycleService],
})
export class LifecycleModule extends ConfigurableModuleClass {}
