import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { Test, type TestingModule } from '@nestjs/testing';
import { BelayRuntime, KillswitchService } from 'belayd/nest';
import { BelayTestingModule } from 'belayd/testing';
import { AppModule, Reports } from './app.js';

// The whole application, on a private Valkey, with a real worker and real processes.
let app: TestingModule;
before(async () => {
  app = await BelayTestingModule.in(Test.createTestingModule({ imports: [AppModule] })).compile();
  await app.init();
});
after(() => app.close());

it('a report is written', async () => {
  const id = await app.get(Reports).begin(0);
  const { state } = await app.get(BelayRuntime).waitForEnd(id, { timeoutMs: 30_000 });
  assert.equal(state, 'completed');
});

it('a report that takes too long is killed, with proof', async () => {
  const id = await app.get(Reports).begin(600);
  await app.get(BelayRuntime).waitForAgent(id, { timeoutMs: 30_000 });
  const { status, receipt } = await app.get(KillswitchService).stops.stop(id, { by: 'test' });
  assert.equal(status, 'stopped');
  assert.deepEqual([receipt?.complete, receipt?.totals.killed], [true, 1]);
});
