import * as fc from 'fast-check';
import { RateBucket } from './rate-bucket';

/** A bucket with a clock that stands still until the test moves it. */
function bucketOf(perSecond: number, burst?: number): { bucket: RateBucket; pass: (ms: number) => void } {
  let now = 1_000;
  const rate = { perSecond, ...(burst === undefined ? {} : { burst }) };
  return { bucket: new RateBucket(rate, () => now), pass: (ms) => void (now += ms) };
}

describe('R65 the bucket of a rate', () => {
  it('lets a burst through at once, and then one at a time as the clock goes on', () => {
    const { bucket, pass } = bucketOf(10, 3);
    expect([bucket.take(), bucket.take(), bucket.take(), bucket.take()]).toEqual([0, 0, 0, 100]);
    pass(60);
    expect(bucket.take()).toBe(40);
    pass(40);
    expect([bucket.take(), bucket.take()]).toEqual([0, 100]);
  });

  it('has room for twice its rate if no burst is given, however long it rested', () => {
    const { bucket, pass } = bucketOf(2);
    pass(3_600_000);
    expect([1, 2, 3, 4, 5].map(() => bucket.take())).toEqual([0, 0, 0, 0, 500]);
  });

  it('counts nothing for a look', () => {
    const { bucket } = bucketOf(1, 1);
    expect([bucket.waitMs(), bucket.waitMs(), bucket.take(), bucket.waitMs()]).toEqual([0, 0, 0, 1_000]);
  });

  it('never lets more through than its burst and its rate over the time that passed; a waiting client gets in', () => {
    const steps = fc.array(fc.oneof(fc.constant('take' as const), fc.integer({ min: 0, max: 5_000 })), {
      maxLength: 200,
    });
    const number = fc.integer({ min: 1, max: 1_000 });
    fc.assert(
      fc.property(number, number, steps, (perSecond, burst, plan) => {
        const { bucket, pass } = bucketOf(perSecond, burst);
        let [taken, passedMs] = [0, 0];
        for (const step of plan) {
          if (step === 'take') taken += bucket.take() === 0 ? 1 : 0;
          else {
            pass(step);
            passedMs += step;
          }
        }
        expect(taken).toBeLessThanOrEqual(burst + (passedMs * perSecond) / 1_000 + 1e-6);
        pass(bucket.waitMs());
        expect(bucket.take()).toBe(0);
      }),
    );
  });
});
