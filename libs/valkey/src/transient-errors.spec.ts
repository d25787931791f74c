import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { Valkey } from './valkey';

let server: ThrowawayServer;
let valkey: Valkey;
beforeAll(async () => {
  server = await startThrowawayServer();
  valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
});
afterAll(async () => {
  valkey.close();
  await server.stop();
});

it('R68 an error of a script has none of its arguments: specs and tokens must not be logged', async () => {
  const failed = await valkey.scripts
    .run('commitExecution', valkey.keys.execution('exe_1'), ['not a tag', 'exe_1', 'hunter2'])
    .catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(Error);
  expect(JSON.stringify(failed, Object.getOwnPropertyNames(failed))).not.toContain('hunter2');
  expect(failed).not.toHaveProperty('command');
});
