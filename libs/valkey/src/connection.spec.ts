import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { addressOf, connectionOptions, Connections } from './connection';

const options = (url: string, role: 'state' | 'blocking' = 'state') =>
  connectionOptions(addressOf(url), role);

describe('connection options', () => {
  it('name one server, with its login and database', () => {
    expect(options('rediss://u:p@h:1/2')).toMatchObject({
      host: 'h',
      port: 1,
      username: 'u',
      password: 'p',
      db: 2,
      tls: {},
      maxRetriesPerRequest: 0,
    });
    expect(options('unix:///run/a%20b.sock')).toMatchObject({ path: '/run/a b.sock' });
  });

  it('name the sentinels and the servers behind them, with a login for each kind', () => {
    expect(
      options('rediss+sentinel://u:p@a,b:2/m?sentinelUsername=s&sentinelPassword=q', 'blocking'),
    ).toMatchObject({
      sentinels: [
        { host: 'a', port: 26_379 },
        { host: 'b', port: 2 },
      ],
      name: 'm',
      username: 'u',
      password: 'p',
      sentinelUsername: 's',
      sentinelPassword: 'q',
      enableTLSForSentinelMode: true,
      failoverDetector: true,
      maxRetriesPerRequest: null,
    });
  });

  it('are refused with the fault, without the secret', () => {
    expect(() => new Connections('redis+cluster://:hunter2@h/1')).toThrow(
      'BELAY_VALKEY_URL cannot be used: a Cluster has no database numbers: end it after the hosts.',
    );
  });
});

describe('a connection that is closed while its server is away', () => {
  afterEach(() => jest.restoreAllMocks());

  it('ends, and leaves no timer that would keep its process for a while', async () => {
    const set = jest.spyOn(globalThis, 'setTimeout');
    const cleared = jest.spyOn(globalThis, 'clearTimeout');
    const connections = new Connections(`redis://127.0.0.1:${await portOfNobody()}`);
    const connection = connections.create('state');
    await new Promise((resolve) => connection.once('reconnecting', resolve));
    const ended = new Promise((resolve) => connection.once('end', resolve));
    connections.close();
    await ended;
    const gone = new Set(cleared.mock.calls.map(([timer]) => timer));
    const left = set.mock.calls.filter((_call, i) => !gone.has(set.mock.results[i]?.value));
    expect(set).toHaveBeenCalled();
    expect(left.map(([, ms]) => ms)).toEqual([]);
  });
});

async function portOfNobody(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
