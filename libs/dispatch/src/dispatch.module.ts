import { Module, type DynamicModule } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import { AgentQueues, type QueueOptions } from './agent-queues';
import { ProducersQueue } from './producers-queue';

/** Gives `AgentQueues` and `ProducersQueue`. Needs LifecycleModule. */
@Module({})
export class DispatchModule {
  static forRoot(options: QueueOptions): DynamicModule {
    return {
      module: DispatchModule,
      global: true,
      providers: [
        {
          provide: AgentQueues,
          inject: [LifecycleService],
          useFactory: (lifecycle: LifecycleService) => new AgentQueues(lifecycle, options),
        },
        {
          provide: ProducersQueue,
          inject: [LifecycleService],
          useFactory: (lifecycle: LifecycleService) => new ProducersQueue(lifecycle.valkey, options),
        },
      ],
      exports: [AgentQueues, ProducersQueue],
    };
  }
}
