import 'reflect-metadata';
import { Test, type TestingModule } from '@nestjs/testing';
import { ApprovalsModule } from '#libs/approvals';
import { DispatchModule } from '#libs/dispatch';
import { ExecutionsModule } from '#libs/executions';
import { KillswitchModule, KillswitchService } from '#libs/killswitch';
import { LifecycleModule } from '#libs/lifecycle';
import { ValkeyModule, type Valkey } from '#libs/valkey';
import { useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { BackgroundModule } from './background.module';
import { OrchestratorService } from './orchestrator.service';

const retentionMs = 60_000;

let valkey: Valkey;
let app: TestingModule;
let orchestrator: OrchestratorService;
let errors: unknown[];
useLife((rig) => ({ valkey } = rig));
beforeEach(async () => {
  errors = [];
  const lifecycle = LifecycleModule.forRoot({ imports: [ValkeyModule.of(valkey)], retentionMs });
  const dispatch = DispatchModule.forRoot({ imports: [lifecycle], prefix: 'bull' });
  const executions = ExecutionsModule.forRoot({ imports: [dispatch], intervalMs: 20, retentionMs });
  const killswitch = KillswitchModule.forRoot({ imports: [executions], proofLimitMs: 1_000, retentionMs });
  const approvals = ApprovalsModule.forRoot({ imports: [killswitch] });
  app = await Test.createTestingModule({
    imports: [
      BackgroundModule.forRoot({
        imports: [approvals],
        sweepMs: 20,
        onError: (error: unknown) => errors.push(error),
      }),
    ],
  }).compile();
  orchestrator = app.get(OrchestratorService);
});
afterEach(async () => {
  await orchestrator.drain();
  // The rig closes the connections of the server.
  jest.spyOn(valkey, 'onApplicationShutdown').mockImplementation(() => undefined);
  await app.close();
  jest.restoreAllMocks();
});

describe('R69 the background work of an orchestrator', () => {
  it('does nothing before its start, and passes again and again after it', async () => {
    const sweep = jest.spyOn(app.get(KillswitchService), 'sweep');
    await app.init();
    expect(orchestrator.state).toBe('idle');
    expect(sweep).not.toHaveBeenCalled();
    await orchestrator.start();
    expect(orchestrator.state).toBe('running');
    await eventually(() => sweep.mock.calls.length >= 3, 'three passes');
    await orchestrator.drain();
    expect(orchestrator.state).toBe('stopped');
    expect(errors).toEqual([]);
  });

  it('refuses new work from the beginning of a drain on, or when it is told to', async () => {
    expect(() => orchestrator.assertAdmitting()).toThrow(expect.objectContaining({ code: 'DRAINING' }));
    await orchestrator.start();
    orchestrator.assertAdmitting();
    orchestrator.closeAdmission();
    expect(() => orchestrator.assertAdmitting()).toThrow(expect.objectContaining({ code: 'DRAINING' }));
    expect(orchestrator.state).toBe('running');
  });

  it('lets open streams end in a drain', async () => {
    await orchestrator.start();
    let end: () => void = () => undefined;
    orchestrator.track(new Promise((resolve) => (end = resolve)));
    expect(orchestrator.openStreams).toBe(1);
    // A stream ends because the drain asks it to.
    orchestrator.closing.signal.addEventListener('abort', end);
    await orchestrator.drain();
    expect([orchestrator.openStreams, orchestrator.phases.unfinished]).toEqual([0, []]);
  });
});
