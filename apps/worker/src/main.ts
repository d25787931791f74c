import 'reflect-metadata';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { isBelayError, readSettings } from '#libs/contracts';
import { AgentQueues, DispatchModule } from '#libs/dispatch';
import { breakGlassPath } from '#libs/client';
import { DagExecutor, ExecutionsModule } from '#libs/executions';
import {
  BreakGlass,
  KillResponder,
  KillswitchModule,
  KillswitchService,
  LatchStore,
  OrderStore,
} from '#libs/killswitch';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import {
  AgentRunner,
  PROCESS_HOST,
  SpawnerModule,
  type ProcessHost,
  type SpawnerOptions,
} from '#libs/spawner';
import { Valkey, ValkeyModule } from '#libs/valkey';
import { pino } from 'pino';
import { ulid } from 'ulid';
import { startBreakGlassServer } from './break-glass-server';
import { startHealthServer } from './health-server';
import { workerMetrics } from './worker-metrics';
import { StoredEnds } from './stored-ends';
import { WorkerService } from './worker.service';

/** Exit codes: 0 drained, 3 agents had to be stopped, 1 failed. */
const EXIT_FORCED = 3;

/** Beyond patience and grace, for everything else a drain does. Milliseconds. */
const DRAIN_SLACK_MS = 20_000;
const MODULES_MS = 10_000;

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  const workerId = `wrk_${ulid()}`;
  const log = pino({ level: settings.logLevel, base: { workerId } });
  const dataDir = resolve(settings.dataDir);
  const logDir = join(dataDir, 'agents');
  const workDir = resolve(settings.workDir ?? '.');
  mkdirSync(logDir, { recursive: true, mode: 0o700 });
  const closing = new AbortController();
  // Made once the module is: it needs the runner, and the runner asks it before each spawn.
  // oxlint-disable-next-line prefer-const -- read by the runner's options above its making
  let responder: KillResponder | undefined;
  // oxlint-disable-next-line prefer-const -- as above
  let service: WorkerService | undefined;

  const retention = { retentionMs: settings.retentionMs };
  const ends = new StoredEnds(async (...end) => app.get(DagExecutor).finish(...end));
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
      ExecutionsModule.forRoot({ intervalMs: 1_000, ...retention }),
      KillswitchModule.forRoot({
        ...retention,
        proofLimitMs: settings.proofLimitMs,
        onError: (error) => log.error({ err: error }, 'killswitch'),
      }),
      SpawnerModule.forRootAsync({
        inject: [],
        useFactory: (): SpawnerOptions => ({
          host: {
            workerId,
            dataDir,
            containment: settings.containment,
            ...(settings.cgroupParent === undefined ? {} : { cgroupParent: settings.cgroupParent }),
          },
          runner: {
            workerId,
            workDir,
            logDir,
            graceMs: settings.graceMs,
            closing: closing.signal,
            finish: async (...end) => ends.store(...end),
            wasSilent: () => service?.wasSilent ?? false,
            leaseHolds: () => service?.leaseHolds ?? true,
            beforeSpawn: (slot) => responder?.beforeSpawn(slot),
            onError: (error, agentId) => log.warn({ err: error, agentId }, 'agent'),
          },
        }),
      }),
    ],
  })
  class WorkerModule {}

  const app = await NestFactory.createApplicationContext(WorkerModule, {
    logger: false,
    abortOnError: false,
  });
  const lifecycle = app.get(LifecycleService);
  const runner = app.get(AgentRunner);
  const host = app.get<ProcessHost>(PROCESS_HOST);
  const orders = app.get(OrderStore);
  app.get(Valkey).quarantine.onFound = ({ message, details }) =>
    log.error({ key: details['key'] }, `${message}. It is set aside`);
  const ears = (responder = new KillResponder(app.get(Valkey), orders, runner, {
    workerId,
    onError: (error) => log.error({ err: error }, 'orders'),
    // That there is a guardian's process says nothing of whether it would act: it is asked.
    describe: async () => ({
      containment: host.containment,
      guardian: await host.guardianAnswers(),
      running: runner.busy,
    }),
  }));
  app.get(KillswitchService).start();

  const shutdown = (): void => void drain('lost').catch(() => undefined);
  const worker = (service = new WorkerService(
    lifecycle,
    app.get(AgentQueues),
    app.get<ProcessHost>(PROCESS_HOST),
    runner,
    ears,
    app.get(LatchStore),
    app.get(OrderStore),
    ends,
    {
      workerId,
      pools: settings.pools,
      concurrency: settings.workerConcurrency,
      leaseTtlMs: settings.leaseTtlMs,
      heartbeatMs: settings.heartbeatMs,
      fenceAfterMs: settings.fenceAfterMs,
      stopTimeoutMs: settings.stopTimeoutMs,
      graceMs: settings.graceMs,
      fenceGraceMs: settings.fenceGraceMs,
      dataDir,
    },
    log,
    shutdown,
  ));
  const metrics = workerMetrics(
    ears,
    runner,
    app.get<ProcessHost>(PROCESS_HOST),
    () => worker.closedPools.length,
  );
  const health = await startHealthServer(
    settings.httpHost,
    settings.workerHttpPort,
    () => ({ state: worker.state, workerId, running: worker.running }),
    async () => metrics.metrics(),
  );

  const breakGlass = new BreakGlass(runner, {
    workerId,
    proofMs: 10_000,
    defaultGraceMs: settings.graceMs,
    hold: (id, request) => {
      log.error({ by: request.by, note: request.note }, 'break-glass: taking no work until a latch holds');
      worker.ledger.hold(id, request);
    },
    done: (receipt, request) => worker.ledger.done(receipt, request),
  });
  const socketPath = breakGlassPath(dataDir, workerId);
  const localServer = await startBreakGlassServer(socketPath, breakGlass);

  let signals = 0;
  let ended: Promise<void> | undefined;
  function drain(why: string): Promise<void> {
    return (ended ??= (async () => {
      log.info(`draining (${why})`);
      const net = setTimeout(
        () => {
          log.fatal(
            { phase: worker.phases.current },
            'the drain is stuck; leaving: the guardian ends what is left',
          );
          process.exit(1);
        },
        settings.stopTimeoutMs + settings.graceMs + DRAIN_SLACK_MS,
      );
      net.unref();
      // With `up` gone its server may be gone too, and with the lease lost nobody waits for these agents.
      const orphaned = why === 'parent gone' || why === 'lost';
      const result = await worker.drain(orphaned ? 0 : settings.stopTimeoutMs);
      closing.abort();
      process.exitCode = result.forced ? EXIT_FORCED : why === 'lost' ? 1 : 0;
      await worker.phases.run('modules', MODULES_MS, async () => app.close());
      lifecycle.valkey.close();
      localServer.close();
      health.server.close();
      health.server.closeAllConnections();
      if (process.connected) process.disconnect();
      // Whatever still holds the loop after a finished shutdown must not keep the process.
      setTimeout(() => process.exit(), 5_000).unref();
      log.info({ forced: result.forced, stopped: result.stopped }, 'stopped');
    })());
  }
  const onSignal = (signal: string): void => {
    signals++;
    if (signals === 2) log.debug(`${signal} again: already draining`);
    if (signals >= 3) worker.force();
    drain(signal).catch((error: unknown) => {
      log.error({ err: error }, 'shutdown failed');
      process.exit(1);
    });
  };
  process.on('SIGTERM', () => onSignal('SIGTERM'));
  process.on('SIGINT', () => onSignal('SIGINT'));
  // Started by `belay up`: when it goes, we drain, however it went.
  process.on('disconnect', () => void drain('parent gone').catch(() => undefined));

  await worker.start(health.port);
  log.info({ containment: app.get<ProcessHost>(PROCESS_HOST).containment, port: health.port }, 'running');
  process.send?.({ type: 'ready', role: 'worker', workerId });
}

main().catch((error: unknown) => {
  const message = isBelayError(error)
    ? `${error.message}${error.problems.map((p) => `\n  ${p.path}: ${p.message}`).join('')}`
    : error;
  console.error('belay worker:', message);
  process.exit(1);
});
