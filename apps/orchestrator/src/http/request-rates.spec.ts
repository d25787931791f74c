import type { TokenHolder } from '#libs/access';
import { BOOTSTRAP_NAME, type BelayError, type DefaultRate } from '#libs/contracts';
import { RecentMap } from './recent-map';
import { networkOf, RequestRates, WRONG_TOKENS, type RefusalReason, type Visit } from './request-rates';

const HERE = '192.0.2.1';
const RATE = { perSecond: 2, burst: 3 };
const ann: TokenHolder = { name: 'ann', role: 'operator' };

let now: number;
let refusals: RefusalReason[];
const ratesOf = (fallback: DefaultRate = RATE): RequestRates => {
  now = 0;
  refusals = [];
  return new RequestRates(
    fallback,
    (reason) => refusals.push(reason),
    () => now,
  );
};

const visit = (secret: string | undefined, more: Partial<Visit> = {}): Visit => ({
  secret,
  address: HERE,
  stops: false,
  ...more,
});

/** A request of a holder, as the gate handles it: `ok`, or the error. */
function ask(rates: RequestRates, of: Visit, holder: TokenHolder | undefined): BelayError | 'ok' | 'wrong' {
  try {
    const wasCounted = rates.admit(of);
    if (holder === undefined) {
      rates.refused(of);
      return 'wrong';
    }
    rates.accept(of, holder, wasCounted);
    return 'ok';
  } catch (error) {
    return error as BelayError;
  }
}

const times = (count: number, run: () => unknown): unknown[] => Array.from({ length: count }, run);
const LIMITED = expect.objectContaining({ code: 'RATE_LIMITED' }) as BelayError;

describe('R65 the rate of a token', () => {
  it('refuses what is beyond it, says what to do, and takes requests again after the wait', () => {
    const rates = ratesOf();
    const read = visit('s');
    expect(times(4, () => ask(rates, read, ann))).toEqual(['ok', 'ok', 'ok', LIMITED]);
    expect(ask(rates, read, ann)).toMatchObject({
      message:
        'The token ann may make 2 requests per second, 3 at once, and made more. This request was refused. Try again in 1 second. Stops, kills, freezes and latches are always taken. For a higher rate ask an admin: belay token create NAME --rate RATE',
      details: { retryAfterMs: 500, perSecond: 2, burst: 3 },
    });
    expect(refusals).toEqual(['token_rate', 'token_rate']);
    now += 500;
    expect([ask(rates, read, ann), ask(rates, read, ann)]).toEqual(['ok', LIMITED]);
  });

  it('R82 refuses no act that stops, and such acts leave the rate as it was', () => {
    const rates = ratesOf();
    const stop = visit('s', { stops: true });
    expect(times(100, () => ask(rates, stop, ann))).toEqual(times(100, () => 'ok'));
    expect(times(4, () => ask(rates, visit('s'), ann))).toEqual(['ok', 'ok', 'ok', LIMITED]);
    expect(ask(rates, stop, ann)).toBe('ok');
    expect(() => rates.take('s')).toThrow(LIMITED);
  });

  it('counts the first requests of a token too where they come at once, before the token is looked up', () => {
    const rates = ratesOf();
    const counted = times(10, () => rates.admit(visit('s'))) as boolean[];
    const taken = counted.filter((wasCounted) => {
      try {
        rates.accept(visit('s'), ann, wasCounted);
        return true;
      } catch {
        return false;
      }
    });
    expect(taken).toHaveLength(3);
  });

  it('is its own where it has one, and the others keep theirs', () => {
    const rates = ratesOf();
    const slow = { ...ann, name: 'slow', rate: { perSecond: 1, burst: 1 } };
    expect(times(2, () => ask(rates, visit('slow'), slow))).toEqual(['ok', LIMITED]);
    expect(times(3, () => ask(rates, visit('s'), ann))).toEqual(['ok', 'ok', 'ok']);
    const off = ratesOf('off');
    expect(times(2, () => ask(off, visit('slow'), slow))).toEqual(['ok', LIMITED]);
    expect(times(50, () => ask(off, visit('s'), ann))).not.toContainEqual(LIMITED);
  });

  it('is none for BELAY_TOKEN', () => {
    const rates = ratesOf();
    const admin: TokenHolder = { name: BOOTSTRAP_NAME, role: 'admin' };
    expect(times(50, () => ask(rates, visit('b'), admin))).not.toContainEqual(LIMITED);
  });
});

describe('R65 wrong tokens', () => {
  const guess = (rates: RequestRates, count: number, more?: Partial<Visit>): unknown[] =>
    times(count, () => ask(rates, visit(`guess-${Math.random()}`, more), undefined));

  it('are not looked up beyond a bound; tokens that were accepted before, stops and other networks are', () => {
    const rates = ratesOf();
    expect(ask(rates, visit('s'), ann)).toBe('ok');
    const { burst = 0 } = WRONG_TOKENS;
    expect(guess(rates, burst)).toEqual(times(burst, () => 'wrong'));
    expect(guess(rates, 1)).toEqual([
      expect.objectContaining({
        code: 'RATE_LIMITED',
        message:
          'Too many requests with a wrong token came from your address, so this token was not checked. Try again in 1 second. Stops, kills, freezes and latches are always checked.',
        details: { retryAfterMs: 100 },
      }),
    ]);
    expect(refusals).toEqual(['wrong_tokens']);
    expect(ask(rates, visit('s'), ann)).toBe('ok');
    expect(ask(rates, visit('new', { stops: true }), { ...ann, name: 'new' })).toBe('ok');
    expect(guess(rates, 1, { address: '192.0.2.2' })).toEqual(['wrong']);
    now += 100;
    expect(ask(rates, visit('newer'), { ...ann, name: 'newer' })).toBe('ok');
  });

  it('are those that were valid once, too, and no token is none', () => {
    const rates = ratesOf();
    expect(ask(rates, visit('s'), ann)).toBe('ok');
    expect(ask(rates, visit('s'), undefined)).toBe('wrong');
    expect(times(100, () => ask(rates, visit(undefined), undefined))).not.toContainEqual(LIMITED);
    guess(rates, 60);
    expect(ask(rates, visit('s'), ann)).toEqual(LIMITED);
  });

  it('are counted by address, of IPv6 by the first 64 bits', () => {
    expect(['192.0.2.1', '::ffff:192.0.2.1', ''].map(networkOf)).toEqual([
      '192.0.2.1',
      '::ffff:192.0.2.1',
      '',
    ]);
    expect(['2001:db8::1', '2001:db8:0:0:ffff::', '2001:db8:0:0:1:2:3:4'].map(networkOf)).toEqual(
      times(3, () => '2001:db8:0:0::/64'),
    );
    expect(['::1', '1::2:3:4:5:6:7', 'fe80::1%eth0'].map(networkOf)).toEqual([
      '0:0:0:0::/64',
      '1:0:2:3::/64',
      'fe80:0:0:0::/64',
    ]);
  });
});

describe('a map of a bounded size', () => {
  it('loses the entry that was not used for the longest time', () => {
    const map = new RecentMap<number>(2);
    map.set('a', 1);
    map.set('b', 2);
    expect(map.get('a')).toBe(1);
    map.set('c', 3);
    expect([map.get('a'), map.get('b'), map.get('c'), map.size]).toEqual([1, undefined, 3, 2]);
    map.delete('a');
    expect([map.get('a'), map.size]).toEqual([undefined, 1]);
  });
});
