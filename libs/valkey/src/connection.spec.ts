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

  it('name the sentinels and what they watch, with a login for each kind', () => {
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

  it('are refused with what is wrong, without the secret', () => {
    expect(() => new Connections('redis+cluster://:hunter2@h/1')).toThrow(
      'BELAY_VALKEY_URL cannot be used: a Cluster has no database numbers: end it after the hosts.',
    );
  });
});
