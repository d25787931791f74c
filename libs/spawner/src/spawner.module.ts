import { Module, type BeforeApplicationShutdown, type OnApplicationShutdown } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import { belayModule, madeFrom } from '#libs/valkey';
import { AgentRunner } from './agent-runner';
import type { RunnerOptions } from './agent-runner.types';
import { AgentSlots } from './agent-slots';
import { LogSweeper } from './log-sweeper';
import { OutcomeReplay } from './outcome-replay';
import { RunnerPorts } from './runner-ports';
import { PROCESS_HOST, RUNNER_OPTIONS } from './tokens';
import { createProcessHost, reportOfProof, type ProcessHost, type ProcessHostOptions } from './process';

/** The application's choices: where processes live, and how attempts run. */
export interface SpawnerOptions {
  /** The options of the host, or a host that exists already. */
  readonly host: ProcessHostOptions | ProcessHost;
  readonly runner: RunnerOptions;
}

const DEFAULT_LOG_BYTES = 1024 * 1024 * 1024;
/** Agents with log files in one folder. */
const MAX_LOGS = 20_000;

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<SpawnerOptions>('BelaySpawner');

const isMade = (host: SpawnerOptions['host']): host is ProcessHost => 'spawn' in host;

/** Ends the agents of a process host that the module made, before connections close. A given host is ended by its maker. */
class SpawnerShutdown implements BeforeApplicationShutdown, OnApplicationShutdown {
  constructor(
    private readonly options: SpawnerOptions,
    private readonly slots: AgentSlots,
    private readonly host: ProcessHost,
  ) {}

  async beforeApplicationShutdown(): Promise<void> {
    if (isMade(this.options.host)) return;
    const { graceMs } = this.options.runner;
    const cause = { reason: 'server_shutdown', mode: 'graceful', by: 'belay', endsAs: 'failed' } as const;
    this.slots.stopWhere(() => true, { ...cause, graceMs });
    await this.slots.whenIdle();
  }

  async onApplicationShutdown(): Promise<void> {
    if (!isMade(this.options.host)) await this.host.close();
  }
}

/**
 * Gives `AgentRunner`, its `AgentSlots` and the `ProcessHost`; with the ExecutionsModule that it needs, also `LifecycleService`.
 * Where its `providers` have a `StartGate`, a `WorkerLease` or an `AgentDoor`, its attempts use them.
 */
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
    AgentSlots,
    OutcomeReplay,
    RunnerPorts,
    AgentRunner,
    {
      provide: RUNNER_OPTIONS,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: ({ runner }: SpawnerOptions) => runner,
    },
    madeFrom(SpawnerShutdown, MODULE_OPTIONS_TOKEN, AgentSlots, PROCESS_HOST),
    {
      provide: LogSweeper,
      inject: [RUNNER_OPTIONS, AgentSlots, LifecycleService],
      useFactory: (runner: RunnerOptions, slots: AgentSlots, lifecycle: LifecycleService) =>
        new LogSweeper(lifecycle.agents, {
          logDir: runner.logDir,
          maxBytes: runner.maxLogBytes ?? DEFAULT_LOG_BYTES,
          maxAgents: MAX_LOGS,
          busy: () => slots.agentIds(),
          onError: (error) => runner.onError?.(error, ''),
        }),
    },
  ],
  exports: [AgentRunner, AgentSlots, OutcomeReplay, PROCESS_HOST],
})
export class SpawnerModule extends ConfigurableModuleClass {}
