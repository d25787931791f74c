import { Module, type DynamicModule } from '@nestjs/common';
import { AccessModule } from '#libs/access';
import { ApprovalsModule } from '#libs/approvals';
import { retentionOf, type Settings } from '#libs/contracts';
import { AgentQueues, DispatchModule } from '#libs/dispatch';
import { DagExecutor, ExecutionsModule } from '#libs/executions';
import {
  AuditStore,
  bestEffort,
  DrillService,
  KillswitchModule,
  KillswitchService,
  PoolQueues,
} from '#libs/killswitch';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import { measureProcess } from '#libs/metrics';
import {
  BackgroundModule,
  DRILL_SCHEDULE_OPTIONS,
  DrillSchedule,
  OrchestratorService,
  type DrillScheduleOptions,
} from '#libs/orchestrator';
import { ChangeFeed, ValkeyModule, type Valkey } from '#libs/valkey';
import { NO_WEBHOOKS, Webhooks, type WebhooksConfig } from '#libs/webhooks';
import { Registry } from 'prom-client';
import { AgentsController } from './agents.controller';
import { AuditController } from './audit.controller';
import { AsksController } from './asks.controller';
import { DRILL_MAX_AGE } from './drill-max-age';
import { DrillsController } from './drills.controller';
import { EVENT_STREAMS_OPTIONS, EventStreams, type EventStreamsOptions } from './event-streams';
import { EventsController } from './events.controller';
import { FleetEvents } from './fleet-events';
import { ExecutionsController } from './executions.controller';
import { HealthController } from './health.controller';
import { KillswitchController } from './killswitch.controller';
import { LatchesController } from './latches.controller';
import { LimitsController } from './limits.controller';
import { MetricsController } from './metrics/metrics.controller';
import { measureStreams } from './metrics/measure-streams';
import { measureWebhooks } from './metrics/measure-webhooks';
import { measureWork } from './metrics/measure-work';
import { orchestratorMetrics } from './metrics/orchestrator-metrics';
import { OpenApiController } from './openapi/openapi.controller';
import { QuarantineController } from './quarantine.controller';
import { QueuesController } from './queues.controller';
import { RootController } from './root.controller';
import { TokensController } from './tokens.controller';
import { WebhooksController } from './webhooks.controller';
import { WorkersController } from './workers.controller';

const SWEEP_MS = 1_000;

export interface OrchestratorModuleOptions {
  readonly settings: Settings;
  readonly valkey: Valkey;
  /** Another orchestrator sets the schedule of drills. */
  readonly leaveDrillSchedule: boolean;
  /** Default: no endpoint. */
  readonly webhooks?: WebhooksConfig;
  readonly onError: (error: unknown) => void;
}

/** Everything of an orchestrator, with the controllers that HTTP needs; without HTTP nobody calls them. */
@Module({})
export class OrchestratorModule {
  static forRoot({
    settings,
    valkey,
    leaveDrillSchedule,
    webhooks = NO_WEBHOOKS,
    onError,
  }: OrchestratorModuleOptions): DynamicModule {
    const retention = retentionOf(settings);
    const isGlobal = true;
    const drillMaxAgeMs = settings.drillCron === undefined ? undefined : settings.drillMaxAgeMs;
    return {
      module: OrchestratorModule,
      imports: [
        ValkeyModule.of(valkey),
        LifecycleModule.forRoot({ ...retention, proof: settings.proof, isGlobal }),
        DispatchModule.forRoot({ prefix: settings.queuePrefix, isGlobal }),
        ExecutionsModule.forRoot({ intervalMs: SWEEP_MS, ...retention, onError, isGlobal }),
        KillswitchModule.forRoot({
          ...retention,
          proofLimitMs: settings.proofLimitMs,
          proof: settings.proof,
          graceMs: settings.graceMs,
          releaseNeeds: settings.releaseNeeds,
          onError,
          isGlobal,
        }),
        ApprovalsModule.forRoot({ isGlobal }),
        BackgroundModule.forRoot({ sweepMs: SWEEP_MS, onError, isGlobal }),
        AccessModule.forRoot({ ...retention, onError, isGlobal }),
      ],
      controllers: [
        ExecutionsController,
        EventsController,
        AgentsController,
        WorkersController,
        // Before the controller whose `:id` would match its routes.
        DrillsController,
        KillswitchController,
        LatchesController,
        AuditController,
        QuarantineController,
        QueuesController,
        LimitsController,
        WebhooksController,
        AsksController,
        MetricsController,
        TokensController,
        HealthController,
        OpenApiController,
        RootController,
      ],
      providers: [
        { provide: DRILL_MAX_AGE, useValue: { ms: drillMaxAgeMs } },
        {
          provide: DRILL_SCHEDULE_OPTIONS,
          useValue: {
            prefix: settings.queuePrefix,
            cron: settings.drillCron,
            leave: leaveDrillSchedule,
            onError,
          } satisfies DrillScheduleOptions,
        },
        DrillSchedule,
        {
          provide: EVENT_STREAMS_OPTIONS,
          useValue: { keepAliveMs: settings.keepAliveMs } satisfies EventStreamsOptions,
        },
        EventStreams,
        {
          provide: FleetEvents,
          inject: [LifecycleService, ChangeFeed],
          useFactory: (lifecycle: LifecycleService, feed: ChangeFeed) =>
            new FleetEvents(lifecycle, feed, onError),
        },
        {
          provide: Webhooks,
          inject: [ChangeFeed],
          useFactory: (feed: ChangeFeed) =>
            new Webhooks(valkey, feed, { ...webhooks, prefix: settings.queuePrefix, onError }),
        },
        {
          provide: PoolQueues,
          inject: [LifecycleService, KillswitchService, AgentQueues, DagExecutor, AuditStore],
          useFactory: (
            lifecycle: LifecycleService,
            killswitch: KillswitchService,
            queues: AgentQueues,
            dag: DagExecutor,
            audit: AuditStore,
          ) => new PoolQueues(lifecycle, killswitch, queues, dag, audit, bestEffort(onError)),
        },
        {
          provide: Registry,
          inject: [
            LifecycleService,
            KillswitchService,
            DrillService,
            ChangeFeed,
            OrchestratorService,
            Webhooks,
          ],
          useFactory: (
            lifecycle: LifecycleService,
            killswitch: KillswitchService,
            drills: DrillService,
            feed: ChangeFeed,
            orchestrator: OrchestratorService,
            hooks: Webhooks,
          ) => {
            const registry = orchestratorMetrics(lifecycle, killswitch, drills, feed, drillMaxAgeMs);
            measureWork(registry, lifecycle, feed);
            orchestrator.atEnd(measureProcess(registry, lifecycle));
            measureStreams(registry, orchestrator);
            measureWebhooks(registry, hooks);
            return registry;
          },
        },
      ],
    };
  }
}
