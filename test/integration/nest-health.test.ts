import type { DynamicModule, ServiceUnavailableException, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { SILENT } from '#libs/service';
import { startThrowawayServer } from '#libs/local-server';
import { BelayHealth, BelayModule } from '../../apps/embedded/src/nest';
import { eventually } from '../support/wait';

/** The part of @nestjs/terminus that this test uses. package.test.ts compiles the indicators against its types. */
interface HealthCheckResult {
  readonly status: string;
  readonly error?: Record<string, { readonly status: string }>;
}
const TERMINUS: string = '@nestjs/terminus';
interface Terminus {
  readonly TerminusModule: { forRoot(options: { logger: false }): DynamicModule };
  readonly HealthCheckService: Type<{ check(indicators: (() => unknown)[]): Promise<HealthCheckResult> }>;
}

it('R69 @nestjs/terminus takes the health of worker, background work and Valkey: up, and down once the server is gone', async () => {
  const { TerminusModule, HealthCheckService } = (await import(TERMINUS)) as Terminus;
  const server = await startThrowawayServer({ appendonly: true });
  const quick = { leaseTtlMs: 4_000, heartbeatMs: 300, graceMs: 300, stopTimeoutMs: 300 };
  const dataDir = server.dir;
  const app = await Test.createTestingModule({
    imports: [
      TerminusModule.forRoot({ logger: false }),
      BelayModule.forRoot({ url: server.url, dataDir, ...quick, log: SILENT }),
    ],
  }).compile();
  const [health, belay] = [app.get(HealthCheckService), app.get(BelayHealth)];
  const check = async (): Promise<HealthCheckResult> => {
    try {
      return await health.check([() => belay.worker(), () => belay.background(), () => belay.valkey()]);
    } catch (error) {
      return (error as ServiceUnavailableException).getResponse() as HealthCheckResult;
    }
  };
  const down = { status: 'down' };
  expect(await check()).toMatchObject({
    status: 'error',
    error: { 'belay-worker': down, 'belay-background': down },
    info: { 'belay-valkey': { status: 'up' } },
  });
  await app.init();
  expect(await check()).toMatchObject({
    status: 'ok',
    info: {
      'belay-worker': { status: 'up', state: 'running' },
      'belay-background': { status: 'up', state: 'running' },
      'belay-valkey': { status: 'up' },
    },
  });

  await server.kill9();
  await eventually(async () => {
    const { error = {} } = await check();
    return error['belay-worker']?.status === 'down' && error['belay-valkey']?.status === 'down';
  }, 'both being down');
  await server.restart();
  await eventually(async () => (await check()).status === 'ok', 'all being up again');
  await app.close();
  expect((await check()).status).toBe('shutting_down');
  await server.stop();
});
