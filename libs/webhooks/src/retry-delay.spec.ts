import { DEFAULT_RETRY, retryDelay } from './retry-delay';

it('the waits between tries double up to their maximum, and are together about a day', () => {
  const plain = { ...DEFAULT_RETRY, jitter: 0 };
  const waits = Array.from({ length: plain.maxAttempts - 1 }, (_, at) => retryDelay(plain, at + 1));
  expect(waits.slice(0, 4)).toEqual([5_000, 10_000, 20_000, 40_000]);
  expect(waits.at(-1)).toBe(4 * 3_600_000);
  const hours = waits.reduce((sum, one) => sum + one, 0) / 3_600_000;
  expect([hours > 20, hours < 28]).toEqual([true, true]);
  const some = Array.from({ length: 200 }, () => retryDelay(DEFAULT_RETRY, 3));
  expect([Math.min(...some) >= 16_000, Math.max(...some) <= 20_000, new Set(some).size > 1]).toEqual([
    true,
    true,
    true,
  ]);
  expect(retryDelay(plain, 1_000)).toBe(plain.maxMs);
});
