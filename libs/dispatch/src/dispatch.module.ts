import { ConfigurableModuleBuilder, Module } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import { MODULE_EXTRAS, withExtras, type ModuleExtras } from '#libs/valkey';
import { AgentQueues, type QueueOptions } from './agent-queues';
import { ProducersQueue } from './producers-queue';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = new ConfigurableModuleBuilder<QueueOptions>({
  moduleName: 'BelayDispatch',
})
  .setClassMethodName('forRoot')
  .setExtras<ModuleExtras>(MODULE_EXTRAS, withExtras)
  .build();

/** Gives `AgentQueues` and `ProducersQueue`. Needs LifecycleModule. */
@Module({
  providers: [
    {
      provide: AgentQueues,
      inject: [LifecycleService, MODULE_OPTIONS_TOKEN],
      useFactory: (lifecycle: LifecycleService, options: QueueOptions) => new AgentQueues(lifecycle, options),
    },
    {
      provide: ProducersQueue,
      inject: [LifecycleService, MODULE_OPTIONS_TOKEN],
      useFactory: (lifecycle: LifecycleService, options: QueueOptions) =>
        new ProducersQueue(lifecycle.valkey, options),
    },
  ],
  exports: [AgentQueues, ProducersQueue],
})
export class DispatchModule extends ConfigurableModuleClass {}
