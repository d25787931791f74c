import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { BelayError, isBelayError, readSettings, SPEC_LIMITS } from '#libs/contracts';
import { DispatchModule } from '#libs/dispatch';
import { ExecutionsModule, Janitor, ProducerIntake } from '#libs/executions';
import { DrillService, KillswitchModule, KillswitchService } from '#libs/killswitch';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import { ChangeFeed, Valkey, ValkeyModule } from '#libs/valkey';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { AgentsController } from './agents.controller';
import { DRILL_MAX_AGE, DrillSchedule } from './drill-schedule';
import { DrillsController } from './drills.controller';
import { ExecutionsController } from './executions.controller';
import { HealthController } from './health.controller';
import { KillswitchController } from './killswitch.controller';
import { LatchesController } from './latches.controller';
import { MetricsController } from './metrics/metrics.controller';
import { orchestratorMetrics } from './metrics/orchestrator-metrics';
import { OrchestratorService } from './orchestrator.service';
import { PatientReads } from './patient-reads';
import { QuarantineController } from './quarantine.controller';
import { ProblemFilter, toProblem } from './problem.filter';
import { QueryGuard } from './query.guard';
import { TokenGuard } from './token.guard';

/** Bodies are JSON in UTF-8, read strictly: what cannot be read is refused before anything looks at it. */
function acceptJson(fastify: FastifyInstance): void {
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    try {
      done(null, JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body as Buffer)));
    } catch (cause) {
      const what = cause instanceof TypeError ? 'is not UTF-8' : `is not JSON (${(cause as Error).message})`;
      done(new BelayError('INVALID_JSON', `The body ${what}.`, { cause }), undefined);
    }
    return undefined;
  });
}

const MODULES_MS = 10_000;

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  const log = pino({ level: settings.logLevel, base: { role: 'orchestrator' } });
  const { token } = settings;
  if (token === undefined)
    throw new BelayError('INVALID_SETTINGS', 'BELAY_TOKEN is missing. `belay up` makes one; else set it.');
  const retention = { retentionMs: settings.retentionMs };
  const drillMaxAgeMs = settings.drillCron === undefined ? undefined : settings.drillMaxAgeMs;
  const onError = (error: unknown): void => log.error({ err: error }, 'background work failed');

  @Module({
    imports: [
      ValkeyModule.forRoot({
        url: settings.valkeyUrl ?? '',
        keyPrefix: settings.keyPrefix,
        shards: settings.shards,
        onTrouble: (message) => log.warn(message),
      }),
      LifecycleModule.forRoot(retention),
      DispatchModule.forRoot({ prefix: settings.queuePrefix }),
      ExecutionsModule.forRoot({ intervalMs: 1_000, ...retention, onError }),
      KillswitchModule.forRoot({ ...retention, proofLimitMs: settings.proofLimitMs, onError }),
    ],
    controllers: [
      ExecutionsController,
      AgentsController,
      // Before the one whose :id would take its routes.
      DrillsController,
      KillswitchController,
      LatchesController,
      QuarantineController,
      MetricsController,
      HealthController,
    ],
    providers: [
      { provide: DRILL_MAX_AGE, useValue: { ms: drillMaxAgeMs } },
      {
        provide: DrillSchedule,
        inject: [Valkey, DrillService],
        useFactory: (valkey: Valkey, drills: DrillService) =>
          new DrillSchedule(valkey, drills, {
            prefix: settings.queuePrefix,
            cron: settings.drillCron,
            onError,
          }),
      },
      {
        provide: Registry,
        inject: [LifecycleService, KillswitchService, DrillService, ChangeFeed],
        useFactory: (
          lifecycle: LifecycleService,
          killswitch: KillswitchService,
          drills: DrillService,
          feed: ChangeFeed,
        ) => orchestratorMetrics(lifecycle, killswitch, drills, feed, drillMaxAgeMs),
      },
      {
        provide: OrchestratorService,
        inject: [Janitor, KillswitchService, ProducerIntake],
        useFactory: (janitor: Janitor, killswitch: KillswitchService, producers: ProducerIntake) =>
          new OrchestratorService(janitor, killswitch, producers, 1_000, onError),
      },
    ],
  })
  class OrchestratorModule {}

  const adapter = new FastifyAdapter({
    bodyLimit: SPEC_LIMITS.maxBodyBytes,
    forceCloseConnections: true,
    // What cannot even be routed (a broken or over-long URL) is answered in the same form as everything else.
    frameworkErrors: (error: unknown, _request: FastifyRequest, reply: FastifyReply) => {
      const problem = toProblem(error);
      void reply
        .status(problem.status)
        .header('content-type', 'application/problem+json')
        .send(JSON.stringify(problem));
    },
  });
  const app = await NestFactory.create<NestFastifyApplication>(OrchestratorModule, adapter, {
    logger: false,
    abortOnError: false,
    bodyParser: false,
  });
  acceptJson(app.getHttpAdapter().getInstance());
  app.useGlobalFilters(new ProblemFilter(log));
  app.useGlobalGuards(new TokenGuard(token), new QueryGuard());
  app.useGlobalInterceptors(new PatientReads());
  const orchestrator = app.get(OrchestratorService);
  app.get(Valkey).quarantine.onFound = ({ message, details }) =>
    log.error({ key: details['key'] }, `${message}. It is set aside`);

  let signals = 0;
  let ended: Promise<void> | undefined;
  function drain(why: string): Promise<void> {
    return (ended ??= (async () => {
      log.info(`draining (${why})`);
      const { phases } = orchestrator;
      setTimeout(() => {
        log.fatal({ phase: phases.current }, 'the drain is stuck; leaving');
        process.exit(1);
      }, settings.stopTimeoutMs + 5_000).unref();
      await orchestrator.drain();
      await phases.run('drill schedule', MODULES_MS, async () => app.get(DrillSchedule).stop());
      // HTTP closes last: until here it has answered, and told every stream.
      await phases.run('http and modules', MODULES_MS, async () => app.close());
      app.get(Valkey).close();
      if (process.connected) process.disconnect();
      process.exitCode ??= 0;
      setTimeout(() => process.exit(), 5_000).unref();
      log.info('stopped');
    })());
  }
  const begin = (why: string): void => {
    drain(why).catch((error: unknown) => {
      log.error({ err: error }, 'shutdown failed');
      process.exit(1);
    });
  };
  const onSignal = (signal: string): void => {
    signals++;
    if (signals === 2) log.debug(`${signal} again: already draining`);
    if (signals >= 3) process.exit(1);
    begin(signal);
  };
  process.on('SIGTERM', () => onSignal('SIGTERM'));
  process.on('SIGINT', () => onSignal('SIGINT'));
  // No signal: a drain that two of them share ends with a disconnect of its own.
  process.on('disconnect', () => begin('parent gone'));

  await orchestrator.start();
  await app.get(DrillSchedule).start();
  await app.listen(settings.httpPort, settings.httpHost);
  const url = await app.getUrl();
  log.info({ url }, 'running');
  process.send?.({ type: 'ready', role: 'orchestrator', url });
}

main().catch((error: unknown) => {
  const message = isBelayError(error)
    ? `${error.message}${error.problems.map((p) => `\n  ${p.path}: ${p.message}`).join('')}`
    : error;
  console.error('belay orchestrator:', message);
  process.exit(1);
});
