import 'reflect-metadata';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  OutcomeUnknownError,
  readSettings,
  SOCKET_KEY_VARIABLE,
  SOCKET_VARIABLE,
  type AgentJob,
} from '#libs/contracts';
import { KillResponder } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import { SILENT } from '#libs/service';
import { AgentRunner, type ProcessHost, type SpawnRequest } from '#libs/spawner';
import type { Valkey } from '#libs/valkey';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { LeaseKeeper } from './lease-keeper';
import { WorkerModule } from './worker.module';
import { WorkerService } from './worker.service';

const workerId = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const FENCE_MS = 60_000;

let valkey: Valkey;
let life: LifecycleService;
let app: TestingModule;
/** The requests for a process. None is started. */
let requests: SpawnRequest[];
useLife((rig) => ({ valkey, life } = rig));
beforeEach(async () => {
  requests = [];
  const host = {
    armFence: () => undefined,
    close: async () => undefined,
    spawn: async (request: SpawnRequest) => {
      requests.push(request);
      throw new Error('nothing can be started here');
    },
  } as unknown as ProcessHost;
  const settings = readSettings({ BELAY_SHARDS: '2' });
  app = await Test.createTestingModule({
    imports: [
      WorkerModule.forRoot({
        settings,
        valkey,
        host,
        runner: { workerId, workDir: '/', logDir: '/', graceMs: 100 },
        worker: {
          workerId,
          pools: ['default'],
          handlers: [],
          ownPools: new Map(),
          concurrency: 1,
          leaseTtlMs: 2 * FENCE_MS,
          heartbeatMs: FENCE_MS / 4,
          fenceAfterMs: FENCE_MS,
          stopTimeoutMs: 100,
          graceMs: 100,
          fenceGraceMs: 100,
          proof: 'marks',
          dataDir: '/',
        },
        log: SILENT,
      }),
    ],
  }).compile();
});
afterEach(async () => {
  app.get(LeaseKeeper).stop();
  // The rig closes the connections of the server.
  jest.spyOn(valkey, 'onApplicationShutdown').mockImplementation(() => undefined);
  await app.close();
  jest.restoreAllMocks();
});

async function nextJob(): Promise<AgentJob> {
  const id = await createExecution(life, spec([node('a')]));
  return (await life.executions.advance(id)).entries[0] as AgentJob;
}

describe('R27 R69 the worker’s module', () => {
  it('gives the runner the lease: without a valid one nothing is started', async () => {
    const job = await nextJob();
    await app.get(AgentRunner).run(job);
    expect(requests).toEqual([]);
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'failed', reason: 'worker_lost' });
  });

  it('gives the runner the gate: an order is looked for before each start', async () => {
    app.get(LeaseKeeper).start(performance.now());
    const asked = jest.spyOn(app.get(KillResponder), 'beforeSpawn');
    const job = await nextJob();
    await app.get(AgentRunner).run(job);
    expect(asked.mock.calls.map(([slot]) => slot.agentId)).toEqual([job.agentId]);
    expect(requests).toHaveLength(1);
  });

  it('gives the runner the retry verdict, and each attempt the way to its worker', async () => {
    app.get(LeaseKeeper).start(performance.now());
    const id = await createExecution(life, spec([node('a', { maxAttempts: 2 })]));
    const [job] = (await life.executions.advance(id)).entries;
    await app.get(AgentRunner).run(job as AgentJob);
    expect(requests).toMatchObject([
      { env: { [SOCKET_VARIABLE]: expect.any(String), [SOCKET_KEY_VARIABLE]: expect.any(String) } },
    ]);
    expect((await life.executions.nodes(id)).items).toMatchObject([{ state: 'ready', attempt: 2 }]);
  });

  it('R46 a forced drain names an attempt whose claim is answered later, and one whose claim had no answer', async () => {
    app.get(LeaseKeeper).start(performance.now());
    const [granted, lost] = [await nextJob(), await nextJob()];
    let hasClaim = (): void => undefined;
    let answer = (): void => undefined;
    const claimed = new Promise<void>((resolve) => (hasClaim = resolve));
    const answered = new Promise<void>((resolve) => (answer = resolve));
    const { agents } = app.get(LifecycleService);
    const claim = agents.claim.bind(agents);
    jest.spyOn(agents, 'claim').mockImplementation(async (job, workerId, token) => {
      const given = await claim(job, workerId, token);
      if (job.agentId === lost.agentId) hasClaim();
      await answered;
      if (job.agentId === lost.agentId)
        throw new OutcomeUnknownError('the claim', new Error('the connection is gone'));
      return given;
    });
    const worker = app.get(WorkerService);
    const runs = [granted, lost].map(async (job) => app.get(AgentRunner).run(job));
    await claimed;
    const drained = worker.drain(60_000);
    worker.force();
    answer();
    expect(await Promise.all(runs)).toEqual(['done', 'refused']);
    expect(await drained).toEqual({ forced: true, stopped: [granted.agentId, lost.agentId] });
    expect(requests).toEqual([]);
    expect(await life.agents.get(granted.agentId)).toMatchObject({
      state: 'failed',
      reason: 'server_shutdown',
    });
  });

  it('R46 a forced drain does not name an attempt whose claim was refused', async () => {
    app.get(LeaseKeeper).start(performance.now());
    let answer = (): void => undefined;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    const { agents } = app.get(LifecycleService);
    jest.spyOn(agents, 'claim').mockImplementation(async () => {
      await answered;
      return { claimed: false, why: 'LATCHED' };
    });
    const worker = app.get(WorkerService);
    const run = app.get(AgentRunner).run(await nextJob());
    const drained = worker.drain(60_000);
    worker.force();
    answer();
    expect(await run).toBe('parked');
    expect(await drained).toEqual({ forced: false, stopped: [] });
  });

  it('takes no work by itself', async () => {
    await app.init();
    expect(app.get(WorkerService).state).toBe('idle');
    expect(await life.workers.list()).toEqual([]);
  });
});
