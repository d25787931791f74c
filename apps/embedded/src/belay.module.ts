import { ConfigurableModuleBuilder, Module, type DynamicModule } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { retentionOf, type Settings } from '#libs/contracts';
import { DispatchModule } from '#libs/dispatch';
import { ExecutionManager, ExecutionsModule, Janitor } from '#libs/executions';
import { ApprovalsModule } from '#libs/approvals';
import { KillswitchModule } from '#libs/killswitch';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import { BackgroundModule, OrchestratorService } from '#libs/orchestrator';
import { calmly, type ServiceLog } from '#libs/service';
import { ChangeFeed, Valkey, ValkeyModule } from '#libs/valkey';
import { BelayHealth } from './belay-health';
import { BelayRuntime } from './belay-runtime';
import type { BelayOptions } from './embedded-options';
import { checkHandlersOptions, collectHandlers, type HandlersOptions } from './handlers/handler-programs';
import { nestLog } from './nest-log';
import { readOptions } from './read-options';

/** The options of `buildBelay` that apply where Nest has HTTP and signals. `log` is Nest's by default. */
export type BelayModuleOptions = Omit<BelayOptions, 'http' | 'handleSignals'> & {
  /** Where the processes of `@AgentHandler` providers find the application's code (docs/handlers.md). */
  readonly handlers?: HandlersOptions;
};

/** Given beside the options, as in other Nest packages. */
export interface BelayModuleExtras {
  /** Gives the providers to every module of the application, without an import. Default false. */
  readonly isGlobal?: boolean;
}

type ReadSettings = Settings & { readonly valkeyUrl: string };

function readModuleOptions({ handlers, ...options }: BelayModuleOptions): ReadSettings {
  checkHandlersOptions(handlers);
  return readOptions(options);
}

/** The time between two passes of the background work. Milliseconds. */
const SWEEP_MS = 1_000;
const SETTINGS = Symbol('belay.settings');
const LOG = Symbol('belay.log');
const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<BelayModuleOptions>({ moduleName: 'Belay' })
    .setClassMethodName('forRoot')
    .build();
/** The token of the application's options. */
export const BELAY_OPTIONS = MODULE_OPTIONS_TOKEN;

/** Checks the options once, for all modules below. */
@Module({
  providers: [
    { provide: SETTINGS, inject: [MODULE_OPTIONS_TOKEN], useFactory: readModuleOptions },
    {
      provide: LOG,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: ({ log }: BelayModuleOptions): ServiceLog => calmly(log ?? nestLog()),
    },
  ],
  exports: [MODULE_OPTIONS_TOKEN, SETTINGS, LOG],
})
class BelayOptionsModule extends ConfigurableModuleClass {}

/**
 * Belay in a Nest application: a worker, the background work of an orchestrator, and the services to inject:
 * `ExecutionManager`, `KillswitchService`, `LifecycleService`, `ChangeFeed`, `BelayRuntime`, `BelayHealth`. It takes work from
 * `onApplicationBootstrap` on and drains in `beforeApplicationShutdown`.
 */
@Module({})
export class BelayModule {
  /** @throws BelayError INVALID_SETTINGS with every problem of the options, when the application is made */
  static forRoot({ isGlobal = false, ...options }: BelayModuleOptions & BelayModuleExtras): DynamicModule {
    return compose(BelayOptionsModule.forRoot(options), isGlobal);
  }

  /** With `imports`, `inject` and `useFactory`, or `useClass` or `useExisting` with a method `create`. */
  static forRootAsync({
    isGlobal = false,
    ...options
  }: typeof ASYNC_OPTIONS_TYPE & BelayModuleExtras): DynamicModule {
    return compose(BelayOptionsModule.forRootAsync(options), isGlobal);
  }
}

function compose(options: DynamicModule, isGlobal: boolean): DynamicModule {
  const inject = [SETTINGS, LOG];
  const valkey = ValkeyModule.forRootAsync({
    imports: [options],
    inject,
    useFactory: ({ valkeyUrl, keyPrefix, shards }: ReadSettings, log: ServiceLog) => ({
      url: valkeyUrl,
      keyPrefix,
      shards,
      onTrouble: (message) => log.warn(message),
    }),
  });
  const lifecycle = LifecycleModule.forRootAsync({
    imports: [valkey],
    inject,
    useFactory: (settings: ReadSettings) => ({ ...retentionOf(settings), proof: settings.proof }),
  });
  const dispatch = DispatchModule.forRootAsync({
    imports: [lifecycle],
    inject,
    useFactory: ({ queuePrefix }: ReadSettings) => ({ prefix: queuePrefix }),
  });
  const executions = ExecutionsModule.forRootAsync({
    imports: [dispatch],
    inject,
    useFactory: (settings: ReadSettings, log: ServiceLog) => ({
      ...retentionOf(settings),
      intervalMs: SWEEP_MS,
      onError: backgroundError(log),
    }),
  });
  const killswitch = KillswitchModule.forRootAsync({
    imports: [executions],
    inject,
    useFactory: (settings: ReadSettings, log: ServiceLog) => ({
      ...retentionOf(settings),
      proofLimitMs: settings.proofLimitMs,
      proof: settings.proof,
      graceMs: settings.graceMs,
      onError: backgroundError(log),
    }),
  });
  const approvals = ApprovalsModule.forRoot({ imports: [killswitch] });
  const background = BackgroundModule.forRootAsync({
    imports: [approvals],
    inject: [LOG],
    useFactory: (log: ServiceLog) => ({ sweepMs: SWEEP_MS, onError: backgroundError(log) }),
  });
  return {
    module: BelayModule,
    global: isGlobal,
    imports: [approvals, background],
    providers: [
      {
        provide: BelayRuntime,
        inject: [
          MODULE_OPTIONS_TOKEN,
          SETTINGS,
          LOG,
          Janitor,
          OrchestratorService,
          LifecycleService,
          ExecutionManager,
          ChangeFeed,
          ModulesContainer,
        ],
        useFactory: (
          { worker, onNotice, handlers }: BelayModuleOptions,
          settings: ReadSettings,
          log: ServiceLog,
          janitor: Janitor,
          orchestrator: OrchestratorService,
          lifecycleService: LifecycleService,
          executionManager: ExecutionManager,
          changes: ChangeFeed,
          modules: ModulesContainer,
        ) =>
          new BelayRuntime(
            {
              janitor,
              orchestrator,
              lifecycle: lifecycleService,
              executions: executionManager,
              changes,
            },
            {
              settings,
              log,
              hasWorker: worker !== false,
              handlers: () => collectHandlers(modules, handlers),
              onNotice,
            },
          ),
      },
      {
        provide: BelayHealth,
        inject: [BelayRuntime, Valkey],
        useFactory: (runtime: BelayRuntime, valkeyService: Valkey) => new BelayHealth(runtime, valkeyService),
      },
    ],
    exports: [BelayRuntime, BelayHealth, approvals],
  };
}

const backgroundError =
  (log: ServiceLog) =>
  (error: unknown): void =>
    log.error({ err: error }, 'background work failed');
