import 'reflect-metadata';
import type { ModuleMetadata } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { DispatchModule } from '#libs/dispatch';
import { ExecutionsModule } from '#libs/executions';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import { ValkeyModule, type Valkey } from '#libs/valkey';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { AgentRunner } from './agent-runner';
import type { ProcessHost } from './process';
import { SpawnerModule } from './spawner.module';

const workerId = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const host = {
  spawn: async () => {
    throw new Error('nothing can be started here');
  },
} as unknown as ProcessHost;

let valkey: Valkey;
let app: TestingModule | undefined;
useLife((rig) => ({ valkey } = rig));
afterEach(async () => {
  // The rig closes the server's connections.
  jest.spyOn(valkey, 'onApplicationShutdown').mockImplementation(() => undefined);
  await app?.close();
  app = undefined;
  jest.restoreAllMocks();
});

type Imports = NonNullable<ModuleMetadata['imports']>;

/** An application of SpawnerModule and of the modules that are given to it. */
async function make(give: (lifecycle: Imports[number]) => Imports): Promise<TestingModule> {
  const lifecycle = LifecycleModule.forRoot({
    imports: [ValkeyModule.of(valkey, { followsEvents: false })],
    retentionMs: 60_000,
  });
  const runner = { workerId, workDir: '/', logDir: '/', graceMs: 100 };
  return Test.createTestingModule({
    imports: [SpawnerModule.forRoot({ imports: give(lifecycle), host, runner })],
  }).compile();
}

describe('R69 SpawnerModule alone', () => {
  it('is refused without anything that gives an end its retry verdict, and names the module to import', async () => {
    await expect(make((lifecycle) => [lifecycle])).rejects.toMatchObject({
      code: 'INVALID_SETTINGS',
      message: expect.stringContaining('ExecutionsModule'),
    });
  });

  it('tries a failed node again as its maxAttempts say, with ExecutionsModule', async () => {
    app = await make((lifecycle) => {
      const dispatch = DispatchModule.forRoot({ imports: [lifecycle], prefix: 'bull' });
      return [ExecutionsModule.forRoot({ imports: [dispatch], intervalMs: 1_000, retentionMs: 60_000 })];
    });
    const life = app.get(LifecycleService);
    const id = await createExecution(life, spec([node('a', { maxAttempts: 2 })]));
    const [job] = (await life.executions.advance(id)).entries;
    expect(await app.get(AgentRunner).run(job!)).toBe('done');
    expect((await life.executions.nodes(id)).items).toMatchObject([{ state: 'ready', attempt: 2 }]);
  });
});
