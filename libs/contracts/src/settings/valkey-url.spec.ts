import { describeUrl, maskUrl, parseValkeyUrl } from './valkey-url';

describe('R66 the address of the state', () => {
  it.each([
    ['redis://h', { mode: 'single', nodes: [{ host: 'h', port: 6_379 }], tls: false }],
    [
      'valkeys://u:p%40s@[::1]:7/3',
      { mode: 'single', nodes: [{ host: '::1', port: 7 }], tls: true, username: 'u', password: 'p@s', db: 3 },
    ],
    [
      'redis://:p@ss@h/',
      { mode: 'single', nodes: [{ host: 'h', port: 6_379 }], tls: false, password: 'p@ss' },
    ],
    ['redis://u@h?x=@', { mode: 'single', nodes: [{ host: 'h', port: 6_379 }], tls: false, username: 'u' }],
    [
      'unix:///run/a@b.sock?username=me&password=p%40ss',
      { mode: 'single', path: '/run/a@b.sock', nodes: [], tls: false, username: 'me', password: 'p@ss' },
    ],
    ['unix:///run/a%20b.sock?db=1', { mode: 'single', path: '/run/a b.sock', nodes: [], tls: false }],
    [
      'rediss+sentinel://u:p@a:1,b/my%2Fmaster/2?sentinelUsername=s&sentinelPassword=p%40q',
      {
        mode: 'sentinel',
        nodes: [
          { host: 'a', port: 1 },
          { host: 'b', port: 26_379 },
        ],
        tls: true,
        username: 'u',
        password: 'p',
        primary: 'my/master',
        db: 2,
        sentinelUsername: 's',
        sentinelPassword: 'p@q',
      },
    ],
    [
      'valkey+cluster://a:7000,[::2]:7001/0',
      {
        mode: 'cluster',
        nodes: [
          { host: 'a', port: 7_000 },
          { host: '::2', port: 7_001 },
        ],
        tls: false,
      },
    ],
  ])('%s is read', (url, address) => {
    expect(parseValkeyUrl(url)).toStrictEqual(address);
  });

  it.each([
    ['http://h', 'it begins with none of these'],
    ['redis+fleet://h', 'it begins with none of these'],
    ['unix://run/x', 'a socket needs an absolute path: unix:///run/valkey.sock'],
    ['redis://a,b', 'many hosts need redis+sentinel:// or redis+cluster://'],
    ['redis+cluster://', 'a host must be written like name, name:6379 or [::1]:6379'],
    ['redis+cluster://a:0', 'a host must be written like name, name:6379 or [::1]:6379'],
    ['redis+cluster://a:65536', 'a host must be written like name, name:6379 or [::1]:6379'],
    ['redis+cluster://a/1', 'a Cluster has no database numbers: end it after the hosts'],
    [
      'redis+sentinel://a',
      'it must name the primary the sentinels watch: redis+sentinel://h1:26379,h2:26379/mymaster',
    ],
    ['redis+sentinel://a/m/x', 'a database is a number: …/0'],
    ['redis://a/1/2', 'a database is a number: …/0'],
    [
      'redis+sentinel://a/m?password=x',
      'it has an unknown parameter; with sentinels there are sentinelUsername and sentinelPassword',
    ],
    [
      'redis+cluster://a?sentinelPassword=x',
      'it has an unknown parameter; with sentinels there are sentinelUsername and sentinelPassword',
    ],
    ['redis://:50%@h', 'it has a % that encodes nothing: write %25'],
  ])('%s is refused', (url, fault) => {
    expect(parseValkeyUrl(url)).toBe(fault);
  });

  it('is shown without its secrets', () => {
    const url = 'redis+sentinel://u:hun@ter2@a:1,b:2/m/0?sentinelPassword=hunter2';
    expect(maskUrl(url)).toBe('redis+sentinel://u:********@a:1,b:2/m/0?sentinelPassword=********');
    expect(describeUrl(url)).toBe('redis+sentinel://a:1,b:2');
    expect(describeUrl('unix:///run/valkey.sock')).toBe('unix:///run/valkey.sock');
    expect(describeUrl('unix:///run/valkey.sock?username=me&password=secret')).toBe(
      'unix:///run/valkey.sock',
    );
    expect(maskUrl('unix:///run/valkey.sock?password=secret')).toBe(
      'unix:///run/valkey.sock?password=********',
    );
    expect(describeUrl('nonsense')).toBe('');
  });
});
