import { Module, type DynamicModule } from '@nestjs/common';
import { AgentQueues } from '#libs/dispatch';
import { LifecycleService } from '#libs/lifecycle';
import { DagExecutor } from './dag-executor';
import { ExecutionManager } from './execution-manager';
import { Janitor, type JanitorOptions } from './janitor';

/** Gives `ExecutionManager`, `DagExecutor` and `Janitor`. Needs LifecycleModule and DispatchModule. */
@Module({})
export class ExecutionsModule {
  static forRoot(options: JanitorOptions): DynamicModule {
    return {
      module: ExecutionsModule,
      global: true,
      providers: [
        {
          provide: DagExecutor,
          inject: [LifecycleService, AgentQueues],
          useFactory: (lifecycle: LifecycleService, queues: AgentQueues) =>
            new DagExecutor(lifecycle, queues),
        },
        {
          provide: ExecutionManager,
          inject: [LifecycleService, DagExecutor],
          useFactory: (lifecycle: LifecycleService, dag: DagExecutor) => new ExecutionManager(lifecycle, dag),
        },
        {
          provide: Janitor,
          inject: [LifecycleService, AgentQueues, DagExecutor],
          useFactory: (lifecycle: LifecycleService, queues: AgentQueues, dag: DagExecutor) =>
            new Janitor(lifecycle, queues, dag, options),
        },
      ],
      exports: [DagExecutor, ExecutionManager, Janitor],
    };
  }
}
