import fc from 'fast-check';
import { backoffMs, recoveryRefusal, retryVerdict } from './retry-policy';

const exponential = { type: 'exponential', delayMs: 1_000, maxMs: 30_000, jitter: 0.5 } as const;

const failed = (code: string) => ({ reason: 'error' as const, error: { code, message: '' } });

describe('R33 retries', () => {
  it('grow, are capped, and draw only the jittered part at random', () => {
    expect([1, 2, 3, 10].map((attempt) => backoffMs({ ...exponential, jitter: 0 }, attempt, 0.7))).toEqual([
      1_000, 2_000, 4_000, 30_000,
    ]);
    expect(
      [1, 2, 3].map((attempt) => backoffMs({ ...exponential, type: 'fixed', jitter: 0 }, attempt, 0.7)),
    ).toEqual([1_000, 1_000, 1_000]);
    expect(backoffMs(exponential, 1, 0)).toBe(500);
    expect(backoffMs(exponential, 1, 0.5)).toBe(750);
  });

  it('never wait longer than the cap, however many attempts there were', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (attempt, random) => {
          const wait = backoffMs(exponential, attempt, random);
          expect(wait).toBeGreaterThanOrEqual(500);
          expect(wait).toBeLessThanOrEqual(30_000);
        },
      ),
    );
  });

  it('count the first attempt, and are not made for errors another attempt cannot mend', () => {
    const node = { maxAttempts: 3, backoff: { ...exponential, jitter: 0 } };
    expect(retryVerdict(node, 1, failed('EXIT'), 0)).toEqual({ retryInMs: 1_000 });
    expect(retryVerdict(node, 2, failed('TIMEOUT'), 0)).toEqual({ retryInMs: 2_000 });
    expect(retryVerdict(node, 3, failed('EXIT'), 0)).toBeUndefined();
    expect(retryVerdict(node, 1, failed('ENOENT'), 0)).toBeUndefined();
    expect(retryVerdict(node, 1, {}, 0)).toEqual({ retryInMs: 1_000 });
  });

  it('with retryOn lost, are made only for attempts that Belay itself lost or ended', () => {
    const node = { maxAttempts: 3, retryOn: 'lost' as const, backoff: { ...exponential, jitter: 0 } };
    expect(retryVerdict(node, 1, failed('EXIT'), 0)).toBeUndefined();
    expect(retryVerdict(node, 1, { reason: 'timeout' }, 0)).toBeUndefined();
    expect(retryVerdict(node, 1, { reason: 'worker_lost' }, 0)).toEqual({ retryInMs: 1_000 });
    expect(retryVerdict(node, 2, { reason: 'server_shutdown' }, 0)).toEqual({ retryInMs: 2_000 });
    expect(retryVerdict(node, 3, { reason: 'worker_lost' }, 0)).toBeUndefined();
  });

  it('R40 are counted anew after a retry by hand, and so is the wait between them', () => {
    const node = { maxAttempts: 3, backoff: { ...exponential, jitter: 0 }, priorAttempts: 3 };
    expect(retryVerdict(node, 4, failed('EXIT'), 0)).toEqual({ retryInMs: 1_000 });
    expect(retryVerdict(node, 5, failed('EXIT'), 0)).toEqual({ retryInMs: 2_000 });
    expect(retryVerdict(node, 6, failed('EXIT'), 0)).toBeUndefined();
  });
});

describe('R29 a lost attempt', () => {
  const refusal = (recovery: { auto: boolean; withinMs?: number }, awayMs: number) =>
    recoveryRefusal({ recovery }, awayMs);

  it('is tried again by itself unless its spec says no, or it was away for too long', () => {
    expect(refusal({ auto: true }, 1e9)).toBeUndefined();
    expect(refusal({ auto: true, withinMs: 5_000 }, 5_000)).toBeUndefined();
    expect(refusal({ auto: true, withinMs: 5_000 }, 5_001)).toMatchObject({ code: 'RECOVERY_TOO_LATE' });
    expect(refusal({ auto: false }, 0)).toMatchObject({ code: 'RECOVERY_OFF' });
    expect(refusal({ auto: false, withinMs: 5_000 }, 9_000)).toMatchObject({ code: 'RECOVERY_OFF' });
  });
});
