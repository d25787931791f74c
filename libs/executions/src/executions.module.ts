import { ConfigurableModuleBuilder, Module } from '@nestjs/common';
import { AgentQueues, ProducersQueue } from '#libs/dispatch';
import { LifecycleService } from '#libs/lifecycle';
import { ChangeFeed, MODULE_EXTRAS, withExtras, type ModuleExtras } from '#libs/valkey';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';
import { ExecutionFollower } from './execution-follower';
import { ExecutionManager } from './execution-manager';
import { Janitor, type JanitorOptions } from './janitor';
import { ProducerIntake } from './producer-intake';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = new ConfigurableModuleBuilder<JanitorOptions>({
  moduleName: 'BelayExecutions',
})
  .setClassMethodName('forRoot')
  .setExtras<ModuleExtras>(MODULE_EXTRAS, withExtras)
  .build();

/** Gives `ExecutionManager`, `DagExecutor`, `AttemptEnds`, `Janitor` and `ProducerIntake`. Needs LifecycleModule and DispatchModule. */
@Module({
  providers: [
    {
      provide: DagExecutor,
      inject: [LifecycleService, AgentQueues],
      useFactory: (lifecycle: LifecycleService, queues: AgentQueues) => new DagExecutor(lifecycle, queues),
    },
    {
      provide: AttemptEnds,
      inject: [LifecycleService, DagExecutor],
      useFactory: (lifecycle: LifecycleService, dag: DagExecutor) => new AttemptEnds(lifecycle, dag),
    },
    {
      provide: ExecutionManager,
      inject: [LifecycleService, DagExecutor],
      useFactory: (lifecycle: LifecycleService, dag: DagExecutor) => new ExecutionManager(lifecycle, dag),
    },
    {
      provide: Janitor,
      inject: [LifecycleService, AgentQueues, DagExecutor, AttemptEnds, MODULE_OPTIONS_TOKEN],
      useFactory: (
        lifecycle: LifecycleService,
        queues: AgentQueues,
        dag: DagExecutor,
        ends: AttemptEnds,
        options: JanitorOptions,
      ) => new Janitor(lifecycle, queues, dag, ends, options),
    },
    {
      provide: ProducerIntake,
      inject: [ProducersQueue, ExecutionManager, LifecycleService, ChangeFeed],
      useFactory: (
        queue: ProducersQueue,
        manager: ExecutionManager,
        lifecycle: LifecycleService,
        feed: ChangeFeed,
      ) => new ProducerIntake(queue, manager, new ExecutionFollower(lifecycle, feed)),
    },
  ],
  exports: [AttemptEnds, DagExecutor, ExecutionManager, Janitor, ProducerIntake],
})
export class ExecutionsModule extends ConfigurableModuleClass {}
