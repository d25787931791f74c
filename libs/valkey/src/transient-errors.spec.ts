import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { isTransient } from './transient-errors';
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

it('R48 a call on a closed connection gives a turn of the event loop, so a caller that repeats it keeps nobody waiting', async () => {
  const closed = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
  closed.close();
  const turn = jest.fn();
  setImmediate(turn);
  for (let call = 0; call < 50 && turn.mock.calls.length === 0; call++)
    await expect(
      closed.scripts.run('commitExecution', closed.keys.execution('exe_1'), []),
    ).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  expect(turn).toHaveBeenCalledTimes(1);
});

it.each([
  "Cluster isn't ready and enableOfflineQueue options is false",
  'Command aborted due to connection close',
  'Node is disconnected',
  "Stream isn't writeable and enableOfflineQueue options is false",
  'None of startup nodes is available',
])('R52 a call during a reconnect may be repeated: %s', (message) => {
  expect(isTransient(new Error(message))).toBe(true);
});
