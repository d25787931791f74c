import { existsSync } from 'node:fs';
import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { BelayRuntime, ExecutionManager, Valkey } from '../../apps/embedded/src/nest';
import { BelayTestingModule } from '../../apps/embedded/src/testing';
import { processesWith } from '../support/fleet';

/** A part of an application: it injects Belay's services and imports nothing of Belay's. */
@Injectable()
class Reports {
  constructor(readonly executions: ExecutionManager) {}

  async begin(script: string): Promise<string> {
    const run = { command: [script], shell: true };
    return (await this.executions.submit({ name: 'report', nodes: [{ id: 'a', run }] })).execution.id;
  }
}
@Module({ providers: [Reports] })
class ReportsModule {}

const DEAF = 'trap "" TERM; while :; do sleep 0.1; done';

it('R69 BelayTestingModule gives a part of an application a server and a worker; close ends them, deaf agents too', async () => {
  const app = await Test.createTestingModule({
    imports: [BelayTestingModule.forRoot(), ReportsModule],
  }).compile();
  await app.init();
  const socket = app.get(Valkey).options.url.replace('unix://', '');
  expect(existsSync(socket)).toBe(true);
  const runtime = app.get(BelayRuntime);
  const written = await app.get(Reports).begin('true');
  expect(await runtime.waitForEnd(written, { timeoutMs: 60_000 })).toMatchObject({ state: 'completed' });
  await expect(runtime.waitForAgent(written, { timeoutMs: 60_000 })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });

  const deaf = await app.get(Reports).begin(DEAF);
  expect(await runtime.waitForAgent(deaf, { timeoutMs: 60_000 })).toMatchObject({ state: 'running' });
  expect(processesWith(deaf)).not.toEqual([]);
  await app.close();
  expect(processesWith(deaf)).toEqual([]);
  expect(existsSync(socket)).toBe(false);
});
