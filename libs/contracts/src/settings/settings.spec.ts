import fc from 'fast-check';
import { BelayError } from '../errors';
import { checkFencing, deriveFenceAfter, fenceGraceOf } from './check-fencing';
import { describeSettings } from './describe-settings';
import { formatDuration, parseDuration } from './parse-duration';
import { type Environment, readSettings } from './read-settings';
import { retentionOf } from './retention';
import { uidRange } from './setting-kinds';
import { SETTINGS } from './setting-table';
import { maskUrl } from './valkey-url';

/** Problems as `NAME CODE message`. */
function told(env: Environment): string[] {
  try {
    readSettings(env);
    return [];
  } catch (error) {
    if (!(error instanceof BelayError) || error.code !== 'INVALID_SETTINGS') throw error;
    return error.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
  }
}

describe('R66 settings', () => {
  it('R67 name a collector by a URL without a user, since belay doctor shows it', () => {
    for (const url of ['http://127.0.0.1:4318', 'https://collector.example/otlp', 'http://[::1]:4318/'])
      expect(readSettings({ BELAY_OTLP_ENDPOINT: url }).otlpEndpoint).toBe(url);
    for (const url of ['127.0.0.1:4318', 'http://user:word@host', 'http://host?key=1', 'ftp://host'])
      expect(() => readSettings({ BELAY_OTLP_ENDPOINT: url })).toThrow(
        /BELAY_OTLP_ENDPOINT: must be an http/,
      );
  });

  it('R65 have a bound on the requests of a token, which may be off', () => {
    for (const [text, rate] of [
      ['off', 'off'],
      ['50', { perSecond: 50 }],
      ['50:200', { perSecond: 50, burst: 200 }],
    ] as const) {
      expect(readSettings({ BELAY_HTTP_RATE: text }).httpRate).toEqual(rate);
      expect(SETTINGS.find(({ key }) => key === 'httpRate')?.kind.format(rate as never)).toBe(text);
    }
    expect(() => readSettings({ BELAY_HTTP_RATE: '0' })).toThrow(/BELAY_HTTP_RATE: must be off, or a number/);
  });

  it('have the published defaults', () => {
    const { sources, ...settings } = readSettings({});
    expect(settings).toStrictEqual({
      dataDir: '.belay',
      httpHost: '127.0.0.1',
      httpPort: 7070,
      requestTimeoutMs: 60_000,
      httpRate: { perSecond: 200, burst: 1_000 },
      keepAliveMs: 25_000,
      workers: 2,
      workerConcurrency: 8,
      pools: ['default'],
      graceMs: 2_000,
      stopTimeoutMs: 30_000,
      leaseTtlMs: 15_000,
      heartbeatMs: 1_000,
      fenceAfterMs: 10_500,
      fenceGraceMs: 2_000,
      proofLimitMs: 30_000,
      proof: 'marks',
      releaseNeeds: 1,
      drillMaxAgeMs: 2 * 86_400_000,
      shards: 4,
      retentionMs: 7 * 86_400_000,
      containment: 'auto',
      isolation: 'auto',
      native: 'auto',
      workDir: '.',
      maxLogMb: 1_024,
      workerHttpPort: 0,
      logLevel: 'info',
      maxEnded: 100_000,
      queuePrefix: 'bull',
      keyPrefix: 'belay',
    });
    expect(Object.keys(sources)).toEqual(SETTINGS.map(({ name }) => name));
    expect(new Set(Object.values(sources))).toEqual(new Set(['default', 'derived']));
  });

  it('are read from the environment, other variables left alone', () => {
    const settings = readSettings({
      PATH: '/bin',
      BELAY_VALKEY_URL: 'rediss://user:pass@valkey.example:6380/1',
      BELAY_TOKEN: 'a-token-of-sixteen',
      BELAY_POOLS: 'default, gpu',
      BELAY_FENCE_AFTER_MS: '5s',
      BELAY_RETENTION: '12h',
      BELAY_CONTAINMENT: 'cgroup',
      BELAY_CGROUP_PARENT: '/sys/fs/cgroup/belay',
      BELAY_WORK_DIR: 'work',
      BELAY_QUEUE_PREFIX: '{bull}',
      BELAY_TEST_ANYTHING: 'x',
      BELAY_EXECUTION_ID: 'exe_1',
      BELAY_WORKER_COOKIE: 'c',
      BELAY_WROKERS: undefined,
    });
    expect(settings).toMatchObject({
      valkeyUrl: 'rediss://user:pass@valkey.example:6380/1',
      token: 'a-token-of-sixteen',
      pools: ['default', 'gpu'],
      fenceAfterMs: 5_000,
      retentionMs: 43_200_000,
      containment: 'cgroup',
      cgroupParent: '/sys/fs/cgroup/belay',
      workDir: 'work',
      queuePrefix: '{bull}',
    });
    expect(settings.sources['BELAY_FENCE_AFTER_MS']).toBe('environment');
  });

  it('count as not set when empty', () => {
    expect(readSettings({ BELAY_VALKEY_URL: '', BELAY_WORKERS: '' })).toStrictEqual(readSettings({}));
  });

  it('are told with every fault at once, secrets in none', () => {
    const env = {
      BELAY_WORKER: '2',
      BELAY_HTTP_PORT: '70700',
      BELAY_WORKERS: '1.5',
      BELAY_POOLS: 'a,,a',
      BELAY_TOKEN: 'hunter2',
      BELAY_VALKEY_URL: 'http://user:hunter2@x',
      BELAY_GRACE_MS: '2 seconds',
      BELAY_RETENTION: '11y',
      BELAY_CONTAINMENT: 'docker',
      BELAY_LOG_LEVEL: 'loud',
      BELAY_CGROUP_PARENT: 'relative',
      BELAY_UNHEARD_OF: '',
    };
    expect(told(env)).toEqual([
      'BELAY_VALKEY_URL BAD_VALUE must be a URL such as redis://127.0.0.1:6379/0, unix:///path, redis+sentinel://h1:26379,h2:26379/mymaster or redis+cluster://h1:7000,h2:7001, with rediss for TLS; it begins with none of these.',
      'BELAY_HTTP_PORT BAD_VALUE must be a whole number from 0 to 65535; it is "70700".',
      'BELAY_TOKEN BAD_VALUE must be 16 to 256 characters without blanks; its value is not shown.',
      'BELAY_WORKERS BAD_VALUE must be a whole number from 0 to 256; it is "1.5".',
      'BELAY_POOLS BAD_VALUE must be pool names between commas, each once, of 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is "a,,a".',
      'BELAY_GRACE_MS BAD_VALUE must be a time from 0ms to 10m, written like 500ms, 30s, 5m, 12h, 7d or plain milliseconds; it is "2 seconds".',
      'BELAY_RETENTION BAD_VALUE must be a time from 1s to 3650d, written like 500ms, 30s, 5m, 12h, 7d or plain milliseconds; it is "11y".',
      'BELAY_CONTAINMENT BAD_VALUE must be auto, cgroup, namespace, descent or marks; it is "docker".',
      'BELAY_CGROUP_PARENT BAD_VALUE must be an absolute path; it is "relative".',
      'BELAY_LOG_LEVEL BAD_VALUE must be trace, debug, info, warn, error, fatal or silent; it is "loud".',
      'BELAY_UNHEARD_OF UNKNOWN_SETTING Belay has no such setting; see belay doctor for those it reads.',
      'BELAY_WORKER UNKNOWN_SETTING Belay has no such setting; did you mean BELAY_WORKERS?',
    ]);
  });

  it('take user ids for agents with the isolation that needs them, and neither without the other', () => {
    const both = { BELAY_ISOLATION: 'user', BELAY_AGENT_UIDS: '70000-70999' };
    expect(readSettings(both)).toMatchObject({
      isolation: 'user',
      agentUids: { first: 70_000, last: 70_999 },
    });
    const { agentUids } = readSettings(both);
    expect(agentUids && uidRange.format(agentUids)).toBe('70000-70999');
    expect(told({ BELAY_ISOLATION: 'user' })).toEqual([
      'BELAY_AGENT_UIDS ISOLATION must be given with BELAY_ISOLATION=user: user ids that no account has, such as 70000-70999.',
    ]);
    expect(told({ BELAY_AGENT_UIDS: '70000-70999' })).toEqual([
      'BELAY_AGENT_UIDS ISOLATION is valid with BELAY_ISOLATION=user only; it is "auto".',
    ]);
    expect(told({ BELAY_ISOLATION: 'root' })).toEqual([
      'BELAY_ISOLATION BAD_VALUE must be auto, same-user, user or namespace; it is "root".',
    ]);
  });

  it.each([
    '70000',
    '0-10',
    '999-2000',
    '70999-70000',
    '65000-66000',
    '70000-170000',
    '70000-99999999999',
    'a-b',
  ])('refuse %s as user ids of agents', (text) => {
    expect(told({ BELAY_ISOLATION: 'user', BELAY_AGENT_UIDS: text })).toEqual([
      expect.stringMatching(/^BELAY_AGENT_UIDS BAD_VALUE must be two user ids with a dash between/),
    ]);
  });

  it('make one message that a terminal shows well', () => {
    expect(() => readSettings({ BELAY_SHARDS: '0' })).toThrow(
      'One setting is not valid.\n  BELAY_SHARDS: must be a whole number from 1 to 256; it is "0".',
    );
    expect(() => readSettings({ BELAY_SHARDS: '0', BELAY_HTTP_HOST: 'a b' })).toThrow(
      '2 settings are not valid.\n  BELAY_HTTP_HOST: must be a host name or an address; it is "a b".\n  BELAY_SHARDS: ',
    );
  });

  it.each(['nonsense', 'redis://', 'unix://', 'unix:///', 'https://x'])('refuse %s as a URL', (url) => {
    expect(told({ BELAY_VALKEY_URL: url })).toHaveLength(1);
  });

  it('say what is wrong with a URL without showing it', () => {
    expect(told({ BELAY_VALKEY_URL: 'redis+sentinel://:hunter2@h1,h2' })[0]).toMatch(
      /; it must name the primary the sentinels watch: redis\+sentinel:\/\/h1:26379,h2:26379\/mymaster\.$/,
    );
  });

  it.each(['redis://h', 'valkey://h:1', 'valkeys://h', 'unix:///run/valkey.sock', 'redis://[::1]:6379/0'])(
    'take %s as a URL',
    (url) => {
      expect(readSettings({ BELAY_VALKEY_URL: url }).valkeyUrl).toBe(url);
    },
  );
});

describe("the queues' prefix", () => {
  const url = 'redis+cluster://h1:7000,h2:7001';

  it('has a hash tag on a Cluster, by itself', () => {
    expect(readSettings({ BELAY_VALKEY_URL: 'redis://h' }).queuePrefix).toBe('bull');
    const settings = readSettings({ BELAY_VALKEY_URL: url });
    expect(settings.queuePrefix).toBe('{bull}');
    expect(settings.sources['BELAY_QUEUE_PREFIX']).toBe('derived');
    expect(readSettings({ BELAY_VALKEY_URL: url, BELAY_QUEUE_PREFIX: 'a{b}' }).queuePrefix).toBe('a{b}');
  });

  it.each(['jobs', '{}jobs', '}jobs{'])('is refused without one on a Cluster: %s', (prefix) => {
    const bare = prefix.replaceAll(/[{}]/g, '');
    expect(told({ BELAY_VALKEY_URL: url, BELAY_QUEUE_PREFIX: prefix })).toEqual([
      `BELAY_QUEUE_PREFIX NO_HASH_TAG must have a hash tag on a Cluster, such as {${bare}}; it is "${prefix}".`,
    ]);
  });

  it('is offered one that can be used where nothing is left of it', () => {
    expect(told({ BELAY_VALKEY_URL: url, BELAY_QUEUE_PREFIX: '{}' })[0]).toContain('such as {bull}');
  });
});

describe('the fence', () => {
  it('must leave room for grace, kill and slack within the lease, and the sum is shown', () => {
    expect(told({ BELAY_FENCE_AFTER_MS: '12s' })).toEqual([
      'BELAY_FENCE_AFTER_MS FENCING fence after 12000 + grace 2000 + kill 500 + slack 500 = 15000 ms must be less than the lease of 15000 ms; lower BELAY_FENCE_AFTER_MS or BELAY_GRACE_MS, or raise BELAY_LEASE_TTL_MS.',
    ]);
    expect(told({ BELAY_FENCE_AFTER_MS: '11999' })).toEqual([]);
  });

  it('must outlast one late heartbeat', () => {
    expect(told({ BELAY_LEASE_TTL_MS: '3s' })).toEqual([
      'BELAY_HEARTBEAT_MS FENCING fence after 950 ms is less than 2 heartbeats of 1000 ms, so one late heartbeat would stop every agent; lower BELAY_HEARTBEAT_MS, or raise BELAY_FENCE_AFTER_MS or BELAY_LEASE_TTL_MS.',
    ]);
    expect(readSettings({ BELAY_LEASE_TTL_MS: '3s', BELAY_HEARTBEAT_MS: '200ms' }).fenceAfterMs).toBe(950);
  });

  it('caps the grace of a long-suffering fleet at a quarter of the lease', () => {
    const settings = readSettings({ BELAY_GRACE_MS: '10m' });
    expect(settings).toMatchObject({ graceMs: 600_000, fenceGraceMs: 3_750, fenceAfterMs: 8_750 });
  });

  it('leaves room for one heartbeat that comes late', () => {
    const times = { leaseTtlMs: 15_000, heartbeatMs: 1_000, fenceGraceMs: 2_000 };
    expect(checkFencing({ ...times, fenceAfterMs: 2_000 })).toEqual([]);
    expect(checkFencing({ ...times, fenceAfterMs: 1_999 })).toMatchObject([{ path: 'BELAY_HEARTBEAT_MS' }]);
  });

  it('holds for every lease a fence is derived from, and is never negative', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2_000, max: 600_000 }),
        fc.nat({ max: 600_000 }),
        (leaseTtlMs, graceMs) => {
          const fenceGraceMs = fenceGraceOf(graceMs, leaseTtlMs);
          const fenceAfterMs = deriveFenceAfter(leaseTtlMs, fenceGraceMs);
          expect(fenceAfterMs).toBeGreaterThan(0);
          expect(checkFencing({ leaseTtlMs, heartbeatMs: 1, fenceAfterMs, fenceGraceMs })).toEqual([]);
        },
      ),
    );
    expect(deriveFenceAfter(1_000, 250)).toBe(0);
  });
});

describe('durations', () => {
  it.each<[string, number | undefined]>([
    ['7d', 604_800_000],
    ['12h', 43_200_000],
    ['5m', 300_000],
    ['30s', 30_000],
    ['1.5s', 1_500],
    ['500ms', 500],
    ['500', 500],
    [' 5s ', 5_000],
    ['0', 0],
    ['0.5ms', undefined],
    ['-1s', undefined],
    ['1 s', undefined],
    ['s', undefined],
    ['', undefined],
    ['1e3', undefined],
    ['999999999999999d', undefined],
  ])('%s is %s milliseconds', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it('are written in the largest unit that is exact, and read back the same', () => {
    expect([0, 1, 1_500, 2_000, 90_000, 3_600_000, 604_800_000].map(formatDuration)).toEqual([
      '0ms',
      '1ms',
      '1500ms',
      '2s',
      '90s',
      '1h',
      '7d',
    ]);
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 40 }), (ms) => {
        expect(parseDuration(formatDuration(ms))).toBe(ms);
      }),
    );
  });
});

describe('belay doctor', () => {
  it('shows every setting with its default and source', () => {
    const rows = describeSettings(readSettings({ BELAY_WORKERS: '4', BELAY_POOLS: 'a,b' }));
    expect(rows.map(({ name }) => name)).toEqual(SETTINGS.map(({ name }) => name));
    const row = (name: string) => rows.find((each) => each.name === name);
    expect(row('BELAY_WORKERS')).toEqual({
      name: 'BELAY_WORKERS',
      value: '4',
      default: '2',
      source: 'environment',
      description: 'Workers that belay up starts',
    });
    expect(row('BELAY_POOLS')?.value).toBe('a,b');
    expect(row('BELAY_RETENTION')?.value).toBe('7d');
    expect(row('BELAY_FENCE_AFTER_MS')).toMatchObject({
      value: '10500',
      default: '(nine tenths of the lease, less grace, kill time and slack)',
      source: 'derived',
    });
    expect(row('BELAY_VALKEY_URL')).toMatchObject({
      value: '',
      default: '(the local server)',
      source: 'default',
    });
  });

  it('masks secrets', () => {
    const env = {
      BELAY_VALKEY_URL: 'redis://u:hunter2@h:1/2?password=hunter2',
      BELAY_TOKEN: 'hunter2hunter2hunter2',
    };
    const text = JSON.stringify(describeSettings(readSettings(env)));
    expect(text).toContain('redis://u:********@h:1/2?password=********');
    expect(text).not.toContain('hunter2');
  });

  it('leaves a URL without secrets as it is', () => {
    expect(maskUrl('redis://127.0.0.1:6379/0')).toBe('redis://127.0.0.1:6379/0');
    expect(maskUrl('unix:///run/valkey.sock')).toBe('unix:///run/valkey.sock');
  });
});

it('say how long, how many and in how many bytes ended executions are kept', () => {
  expect(retentionOf(readSettings({ BELAY_RETENTION: '12h', BELAY_MAX_ENDED: '50' }))).toStrictEqual({
    retentionMs: 43_200_000,
    maxEnded: 50,
  });
  expect(retentionOf(readSettings({ BELAY_MAX_STATE_MB: '2' }))).toMatchObject({ maxStateBytes: 2_097_152 });
});
