import { Module, type BeforeApplicationShutdown, type OnApplicationShutdown } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import { belayModule, madeFrom } from '#libs/valkey';
import { AgentRunner } from './agent-runner';
import type { RunnerOptions } from './agent-runner.types';
import { LogSweeper } from './log-sweeper';
import { createProcessHost, reportOfProof, type ProcessHost, type ProcessHostOptions } from './process';

/** The application's choices: where processes live, and how an attempt's end is stored. */
export interface SpawnerOptions {
  /** The options of the host, or a host that exists already. */
  readonly host: ProcessHostOptions | ProcessHost;
  readonly runner: Omit<RunnerOptions, 'finish'> & Partial<Pick<RunnerOptions, 'finish'>>;
}

const DEFAULT_LOG_BYTES = 1024 * 1024 * 1024;
/** Agents with log files in one folder. */
const MAX_LOGS = 20_000;

/** The token of the worker's ProcessHost. */
export const PROCESS_HOST = Symbol('belay.process-host');

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<SpawnerOptions>('BelaySpawner');

const isMade = (host: SpawnerOptions['host']): host is ProcessHost => 'spawn' in host;

/** Ends the agents of a process host that the module made, before connections close. A given host is ended by its maker. */
class SpawnerShutdown implements BeforeApplicationShutdown, OnApplicationShutdown {
  constructor(
    private readonly options: SpawnerOptions,
    private readonly runner: AgentRunner,
    private readonly host: ProcessHost,
  ) {}

  async beforeApplicationShutdown(): Promise<void> {
    if (isMade(this.options.host)) return;
    const { graceMs } = this.options.runner;
    const cause = { reason: 'server_shutdown', mode: 'graceful', by: 'belay', endsAs: 'failed' } as const;
    this.runner.stopWhere(() => true, { ...cause, graceMs });
    await this.runner.whenIdle();
  }

  async onApplicationShutdown(): Promise<void> {
    if (!isMade(this.options.host)) await this.host.close();
  }
}

/** Gives `AgentRunner` and the `ProcessHost`; with the LifecycleModule that it needs, also `LifecycleService`. */
@Module({
  providers: [
    {
      provide: PROCESS_HOST,
      inject: [MODULE_OPTIONS_TOKEN, LifecycleService],
      useFactory: async ({ host }: SpawnerOptions, { workers }: LifecycleService) =>
        isMade(host)
          ? host
          : createProcessHost({
              checkSeal: async (seal) => workers.checkSeal(seal),
              onReaped: async (reaped) =>
                workers.saveProof(reaped.workerId, reportOfProof({ ...reaped, by: 'reaper' })),
              ...host,
            }),
    },
    {
      provide: AgentRunner,
      inject: [MODULE_OPTIONS_TOKEN, PROCESS_HOST, LifecycleService],
      useFactory: ({ runner }: SpawnerOptions, host: ProcessHost, lifecycle: LifecycleService) =>
        new AgentRunner(lifecycle, host, {
          finish: async (fence, outcome) => lifecycle.agents.finish(fence, outcome),
          ...runner,
        }),
    },
    madeFrom(SpawnerShutdown, MODULE_OPTIONS_TOKEN, AgentRunner, PROCESS_HOST),
    {
      provide: LogSweeper,
      inject: [MODULE_OPTIONS_TOKEN, AgentRunner, LifecycleService],
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
})
export class SpawnerModule extends ConfigurableModuleClass {}
