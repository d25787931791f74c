import { Module, type DynamicModule } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import { AgentRunner } from './agent-runner';
import type { RunnerOptions } from './agent-runner.types';
import { LogSweeper } from './log-sweeper';
import { createProcessHost, type ProcessHost, type ProcessHostOptions } from './process';

/** The application's choices: where processes live, and how an attempt's end is stored. */
export interface SpawnerOptions {
  /** How it is made, or one that is made already. */
  readonly host: ProcessHostOptions | ProcessHost;
  readonly runner: Omit<RunnerOptions, 'finish'> & Partial<Pick<RunnerOptions, 'finish'>>;
}

const DEFAULT_LOG_BYTES = 1024 * 1024 * 1024;
/** Agents with log files in one folder. */
const MAX_LOGS = 20_000;

/** The token of the worker's ProcessHost. */
export const PROCESS_HOST = Symbol('belay.process-host');

/** Gives `AgentRunner` and the `ProcessHost`. Needs LifecycleModule. */
@Module({})
export class SpawnerModule {
  static forRootAsync(options: {
    inject: never[];
    useFactory: (...args: never[]) => SpawnerOptions;
  }): DynamicModule {
    const settings = Symbol('belay.spawner-options');
    return {
      module: SpawnerModule,
      global: true,
      providers: [
        { provide: settings, inject: options.inject, useFactory: options.useFactory },
        {
          provide: PROCESS_HOST,
          inject: [settings],
          useFactory: async ({ host }: SpawnerOptions) => ('spawn' in host ? host : createProcessHost(host)),
        },
        {
          provide: AgentRunner,
          inject: [settings, PROCESS_HOST, LifecycleService],
          useFactory: (chosen: SpawnerOptions, host: never, lifecycle: LifecycleService) =>
            new AgentRunner(lifecycle, host, {
              finish: async (fence, outcome) => lifecycle.agents.finish(fence, outcome),
              ...chosen.runner,
            }),
        },
        {
          provide: LogSweeper,
          inject: [settings, AgentRunner, LifecycleService],
          useFactory: ({ runner }: SpawnerOptions, agents: AgentRunner, lifecycle: LifecycleService) =>
            new LogSweeper(lifecycle.agents, {
              logDir: runner.logDir,
              maxBytes: runner.maxLogBytes ?? DEFAULT_LOG_BYTES,
              maxAgents: MAX_LOGS,
              busy: () => agents.agentIds(),
              onError: (error) => runner.onError?.(error, ''),
            }),
        },
      ],
      exports: [AgentRunner, PROCESS_HOST],
    };
  }
}
