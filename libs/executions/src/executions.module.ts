import { Module } from '@nestjs/common';
import { AgentQueues, ProducersQueue } from '#libs/dispatch';
import { AttemptEndPort, LifecycleService } from '#libs/lifecycle';
import { belayModule, ChangeFeed, madeFrom } from '#libs/valkey';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';
import { ExecutionFollower } from './execution-follower';
import { ExecutionManager } from './execution-manager';
import { Janitor, type JanitorOptions } from './janitor';
import { SubmissionConsumer } from './submission-consumer';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<JanitorOptions>('BelayExecutions');

/**
 * Gives `ExecutionManager`, `DagExecutor`, `AttemptEnds` (also as `AttemptEndPort`), `Janitor` and `SubmissionConsumer`. Needs
 * LifecycleModule and DispatchModule.
 */
@Module({
  providers: [
    madeFrom(DagExecutor, LifecycleService, AgentQueues),
    madeFrom(AttemptEnds, LifecycleService, DagExecutor),
    { provide: AttemptEndPort, useExisting: AttemptEnds },
    madeFrom(ExecutionManager, LifecycleService, DagExecutor),
    madeFrom(Janitor, LifecycleService, AgentQueues, DagExecutor, AttemptEnds, MODULE_OPTIONS_TOKEN),
    {
      provide: SubmissionConsumer,
      inject: [ProducersQueue, ExecutionManager, LifecycleService, ChangeFeed],
      useFactory: (
        queue: ProducersQueue,
        manager: ExecutionManager,
        lifecycle: LifecycleService,
        feed: ChangeFeed,
      ) => new SubmissionConsumer(queue, manager, new ExecutionFollower(lifecycle, feed)),
    },
  ],
  exports: [AttemptEnds, AttemptEndPort, DagExecutor, ExecutionManager, Janitor, SubmissionConsumer],
})
export class ExecutionsModule extends ConfigurableModuleClass {}
