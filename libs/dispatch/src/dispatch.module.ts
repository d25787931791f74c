import { Module } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import { belayModule, madeFrom } from '#libs/valkey';
import { AgentQueues, type QueueOptions } from './agent-queues';
import { ProducersQueue } from './producers-queue';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<QueueOptions>('BelayDispatch');

/** Gives `AgentQueues` and `ProducersQueue`. Needs LifecycleModule. */
@Module({
  providers: [
    madeFrom(AgentQueues, LifecycleService, MODULE_OPTIONS_TOKEN),
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
