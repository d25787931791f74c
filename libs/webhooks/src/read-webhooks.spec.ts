import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BelayError } from '#libs/contracts';
import { readWebhooks } from './read-webhooks';

const SECRET = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-hooks-'));
  writeFileSync(join(folder, 'good'), `${SECRET}\n`, { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true }));

const GOOD = { name: 'pager', url: 'https://hooks.example/x', secretFile: 'good', events: ['latch.*'] };

function read(value: unknown): ReturnType<typeof readWebhooks> {
  const file = join(folder, 'webhooks.json');
  writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
  return readWebhooks(file);
}

/** `path code` of each problem. */
function faultsOf(value: unknown): string[] {
  try {
    read(value);
  } catch (error) {
    const { code, message, problems } = error as BelayError;
    expect(code).toBe('INVALID_SETTINGS');
    expect(message).not.toContain(SECRET.slice(6, 20));
    expect(message).not.toContain('secret-path');
    return problems.map((one) => `${one.path} ${one.code}`);
  }
  return [];
}

describe('the file of webhooks', () => {
  it('names endpoints, their secrets beside it, and the retries', () => {
    const { endpoints, retry } = read({ endpoints: [GOOD], retry: { maxAttempts: 3, jitter: 0 } });
    expect(endpoints).toMatchObject([{ name: 'pager', events: ['latch.*'] }]);
    expect([endpoints[0]?.url.href, endpoints[0]?.keys.length]).toEqual([GOOD.url, 1]);
    expect(retry).toEqual({ maxAttempts: 3, delayMs: 5_000, maxMs: 14_400_000, jitter: 0 });
    writeFileSync(join(folder, 'good'), `${SECRET}\n${SECRET}\n`);
    expect(read({ endpoints: [GOOD] }).endpoints[0]?.keys).toHaveLength(2);
  });

  it('is refused with every problem at once, none with a secret or a URL', () => {
    writeFileSync(join(folder, 'open'), SECRET, { mode: 0o644 });
    writeFileSync(join(folder, 'bad'), SECRET.slice(0, 20), { mode: 0o600 });
    const value = {
      endpoints: [
        GOOD,
        { ...GOOD, url: 'http://hooks.example/secret-path', secretFile: 'open' },
        {
          name: 'a b',
          url: 'https://user:pw@x.example/secret-path',
          secretFile: 'bad',
          events: ['order.open', 'latch.engage'],
        },
        { ...GOOD, name: 'c', url: 'ftp://x/secret-path', secretFile: 'none', events: [], colour: 1 },
        7,
      ],
      retry: { maxAttempts: 0, jitter: 2, delay: 1 },
      endpoint: [],
    };
    expect(faultsOf(value).toSorted()).toEqual(
      [
        'endpoint UNKNOWN_FIELD',
        'endpoints[1].secretFile BAD_FILE',
        'endpoints[1].url NOT_ENCRYPTED',
        'endpoints[2].events[1] UNKNOWN_EVENT',
        'endpoints[2].name BAD_VALUE',
        'endpoints[2].secretFile BAD_SECRET',
        'endpoints[2].url BAD_VALUE',
        'endpoints[3].colour UNKNOWN_FIELD',
        'endpoints[3].events TYPE',
        'endpoints[3].secretFile BAD_FILE',
        'endpoints[3].url BAD_VALUE',
        'endpoints[4] TYPE',
        'retry.delay UNKNOWN_FIELD',
        'retry.jitter BAD_VALUE',
        'retry.maxAttempts BAD_VALUE',
      ].toSorted(),
    );
  });

  it('suggests the event that was meant, and takes no name twice and at most 32 endpoints', () => {
    expect(() => read({ endpoints: [{ ...GOOD, events: ['order.unconfirmd'] }] })).toThrow(
      'endpoints[0].events[0]: "order.unconfirmd" is no event type or pattern; did you mean order.unconfirmed?',
    );
    expect(faultsOf({ endpoints: [GOOD, GOOD] })).toEqual(['endpoints[1].name TWICE']);
    const many = Array.from({ length: 33 }, (_, at) => ({ ...GOOD, name: `e${at}` }));
    expect(faultsOf({ endpoints: many })).toEqual(['endpoints TOO_MANY']);
  });

  it.each(['http://127.0.0.1:9/x', 'http://localhost/', 'http://[::1]:8080/'])('takes %s', (url) =>
    expect(faultsOf({ endpoints: [{ ...GOOD, url }] })).toEqual([]),
  );

  it('takes http elsewhere only where it is allowed for that endpoint', () => {
    const far = { ...GOOD, url: 'http://127.0.0.1.evil.example/' };
    expect(faultsOf({ endpoints: [far] })).toEqual(['endpoints[0].url NOT_ENCRYPTED']);
    expect(faultsOf({ endpoints: [{ ...far, allowHttp: true }] })).toEqual([]);
    expect(faultsOf({ endpoints: [{ ...far, allowHttp: 'yes' }] })).toEqual([
      'endpoints[0].allowHttp TYPE',
      'endpoints[0].url NOT_ENCRYPTED',
    ]);
  });

  it('that is no JSON, no list, absent or no file is refused, without its text', () => {
    expect(faultsOf('{"endpoints": [secret-path')).toEqual([' NOT_JSON']);
    expect(faultsOf({})).toEqual(['endpoints TYPE']);
    expect(faultsOf([])).toEqual([' TYPE']);
    expect(faultsOf(' '.repeat(300_000))).toEqual([' BAD_FILE']);
    expect(() => readWebhooks(join(folder, 'absent'))).toThrow('cannot be read (ENOENT)');
    expect(() => readWebhooks(folder)).toThrow('it is not a file');
  });
});
