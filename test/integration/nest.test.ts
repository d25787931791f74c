import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { Injectable, Logger, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AgentRunner,
  BelayModule,
  BelayRuntime,
  ChangeFeed,
  DispatchModule,
  ExecutionManager,
  ExecutionsModule,
  KillswitchService,
  LifecycleModule,
  LifecycleService,
  SpawnerModule,
  Valkey,
  ValkeyModule,
  type BelayModuleOptions,
} from '../../apps/embedded/src/nest';
import { advanceAll, createExecution, node, spec } from '../support/life';
import { processesWith } from '../support/fleet';
import { eventually } from '../support/wait';

/** Nest applications that import Belay, each on a key prefix of its own. */
let server: ThrowawayServer;
let dir: string;
beforeAll(async () => {
  server = await startThrowawayServer();
  dir = mkdtempSync(join(tmpdir(), 'belay-nest-'));
});
afterAll(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});
afterEach(() => jest.restoreAllMocks());

let applications = 0;
const options = (more: Partial<BelayModuleOptions> = {}): BelayModuleOptions => {
  const name = `nest${applications++}`;
  const dataDir = join(dir, name);
  return {
    url: server.url,
    keyPrefix: name,
    queuePrefix: name,
    dataDir,
    workDir: dataDir,
    graceMs: 300,
    stopTimeoutMs: 300,
    ...more,
  };
};

/** An application's own configuration and service. */
const CONFIG = Symbol('config');
const configOf = (value: BelayModuleOptions) => {
  @Module({ providers: [{ provide: CONFIG, useValue: value }], exports: [CONFIG] })
  class ConfigModule {}
  return ConfigModule;
};

@Injectable()
class Reports {
  constructor(
    private readonly executions: ExecutionManager,
    readonly lifecycle: LifecycleService,
    readonly killswitch: KillswitchService,
  ) {}

  async begin(script: string): Promise<string> {
    const { execution } = await this.executions.submit({
      name: 'report',
      nodes: [{ id: 'a', run: { command: [script], shell: true } }],
    });
    return execution.id;
  }

  async runningAgent(executionId: string): Promise<string> {
    const [agent] = await eventually(async () => {
      const found = await this.lifecycle.agents.list({ executionId, states: ['running'] });
      return found.length > 0 && found;
    }, 'its agent');
    return agent?.id ?? '';
  }
}

describe('R48 R69 a Nest application that imports BelayModule', () => {
  it('injects its services, takes work once it has started, kills with proof, and drains when it closes', async () => {
    const config = configOf(options());
    const app = await Test.createTestingModule({
      imports: [
        BelayModule.forRootAsync({
          imports: [config],
          inject: [CONFIG],
          useFactory: (value: BelayModuleOptions) => value,
        }),
      ],
      providers: [Reports],
    }).compile();
    const reports = app.get(Reports);
    const first = await reports.begin('true');
    expect(app.get(BelayRuntime)).toMatchObject({ state: 'idle', workerId: undefined });
    expect((await reports.lifecycle.workers.list(['running'])).length).toBe(0);
    await app.init();
    await eventually(
      async () => (await reports.lifecycle.executions.get(first)).state === 'completed',
      'the end of what was submitted before the start',
    );

    const killed = await reports.begin('trap "" TERM; while :; do sleep 0.1; done');
    await reports.runningAgent(killed);
    const order = await reports.killswitch.placeOrder({
      scope: { type: 'execution', executionId: killed },
      by: 'test',
    });
    expect(await reports.killswitch.waitForReceipt(order.id)).toMatchObject({
      complete: true,
      totals: { killed: 1 },
    });
    expect(processesWith(killed)).toEqual([]);

    const left = await reports.begin('sleep 600');
    await reports.runningAgent(left);
    expect(processesWith(left)).not.toEqual([]);
    const runtime = app.get(BelayRuntime);
    expect(runtime.state).toBe('running');
    await app.close();
    expect(processesWith(left)).toEqual([]);
    expect(runtime.state).toBe('stopped');
  });

  it('is reported when nobody listens for SIGTERM, through Nest’s own log, and keeps that log', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const listeners = jest.spyOn(process, 'listenerCount').mockReturnValue(0);
    const app = await Test.createTestingModule({
      imports: [BelayModule.forRoot(options())],
    }).compile();
    const logger = Logger['staticInstanceRef'];
    await app.init();
    await eventually(() => warn.mock.calls.length > 0, 'the warning');
    expect(warn).toHaveBeenCalledWith(expect.stringContaining('enableShutdownHooks'));
    expect(Logger['staticInstanceRef']).toBe(logger);
    listeners.mockRestore();
    await app.close();
  });

  it('is refused with every problem of its options', async () => {
    const made = Test.createTestingModule({
      imports: [BelayModule.forRoot({ ...options(), shards: 0, graceMs: -1 })],
    }).compile();
    await expect(made).rejects.toMatchObject({
      code: 'INVALID_SETTINGS',
      problems: [{ path: 'graceMs' }, { path: 'shards' }],
    });
  });
});

describe('R69 a module alone', () => {
  it('runs an attempt: the spawner, with the executions, the lifecycle and the server it is given', async () => {
    const { keyPrefix = '', dataDir = '' } = options();
    const workerId = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
    const valkey = ValkeyModule.forRoot({ url: server.url, keyPrefix });
    const lifecycle = LifecycleModule.forRoot({ imports: [valkey], retentionMs: 60_000 });
    const dispatch = DispatchModule.forRoot({ imports: [lifecycle], prefix: keyPrefix });
    const executions = ExecutionsModule.forRoot({
      imports: [dispatch],
      intervalMs: 1_000,
      retentionMs: 60_000,
    });
    const app = await Test.createTestingModule({
      imports: [
        SpawnerModule.forRootAsync({
          imports: [executions],
          useFactory: () => ({
            host: { workerId, dataDir, containment: 'marks' as const },
            runner: { workerId, workDir: dir, logDir: dir, graceMs: 100 },
          }),
        }),
      ],
    }).compile();
    await app.init();
    const life = app.get(LifecycleService);
    const run = { command: ['sleep', '600'], env: {}, shell: false };
    const id = await createExecution(life, spec([node('done'), node('left', { run })]));
    const [done, left] = await advanceAll(life, id);
    const runner = app.get(AgentRunner);
    expect(await runner.run(done!)).toBe('done');
    expect(await life.agents.get(done!.agentId)).toMatchObject({ state: 'completed', exitCode: 0 });
    const running = runner.run(left!);
    await eventually(
      async () => (await life.agents.get(left!.agentId).catch(() => undefined))?.state === 'running',
      'the other',
    );
    await app.close();
    await running;
    expect(processesWith(id)).toEqual([]);
  });

  it('does not find providers that it was not given: no module is global by default', async () => {
    const { keyPrefix = '' } = options();
    const valkey = ValkeyModule.forRoot({ url: server.url, keyPrefix });
    const made = Test.createTestingModule({
      imports: [
        LifecycleModule.forRoot({ imports: [valkey], retentionMs: 60_000 }),
        ExecutionsModule.forRoot({ intervalMs: 1_000, retentionMs: 60_000 }),
      ],
    })
      // An application that was not made cannot be closed either.
      .overrideProvider(Valkey)
      .useValue({})
      .overrideProvider(ChangeFeed)
      .useValue({})
      .compile();
    await expect(made).rejects.toThrow(/AgentQueues|LifecycleService/);
  });
});
