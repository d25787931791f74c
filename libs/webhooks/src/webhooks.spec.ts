import { ChangeFeed, type Valkey } from '#libs/valkey';
import { useLife } from '../../../test/support/life';
import { NO_WEBHOOKS } from './retry-delay';
import { Webhooks } from './webhooks';

let valkey: Valkey;
useLife((rig) => ({ valkey } = rig));

it('without an endpoint no command is sent, and there is no connection, timer or subscription', async () => {
  const feed = new ChangeFeed(valkey);
  await feed.start();
  // The owner of the server asks whether it is alive.
  const commands = async (): Promise<string[]> => {
    const lines = (await valkey.redis.info('commandstats')).split('\r\n');
    return lines.flatMap((line) => /^cmdstat_(?!info|ping)\S+:calls=\d+/.exec(line) ?? []).toSorted();
  };
  const clients = async (): Promise<number> =>
    String(await valkey.redis.client('LIST'))
      .trim()
      .split('\n').length;
  const [opened, before] = [await clients(), await commands()];
  const timers = jest.spyOn(globalThis, 'setInterval');
  const waits = jest.spyOn(globalThis, 'setTimeout');
  const subscribed = jest.spyOn(feed.events$, 'subscribe');
  const hooks = new Webhooks(valkey, feed, { ...NO_WEBHOOKS, prefix: 'bull', onError: fail });
  hooks.start();
  expect(await hooks.list()).toEqual([]);
  await expect(hooks.deliveries('pager')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await hooks.stop();
  expect([timers.mock.calls.length, waits.mock.calls.length, subscribed.mock.calls.length]).toEqual([
    0, 0, 0,
  ]);
  expect(await commands()).toEqual(before);
  expect(await clients()).toBe(opened);
  feed.stop();
});

function fail(error: unknown): never {
  throw error;
}
