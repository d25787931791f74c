import { ExpiringMap } from './expiring-map';

describe('ExpiringMap', () => {
  it('keeps the newest, oldest first, no more than allowed', () => {
    const recent = new ExpiringMap<number>(60_000, 2);
    for (const n of [1, 2, 3]) recent.add(`k${n}`, n);
    expect(recent.list()).toEqual([2, 3]);
    recent.add('k2', 4);
    expect(recent.list()).toEqual([3, 4]);
    recent.drop('k3');
    expect([recent.has('k3'), recent.get('k2')]).toEqual([false, 4]);
  });

  it('forgets entries that are older than its limit', () => {
    const recent = new ExpiringMap<number>(0);
    recent.add('k', 1);
    expect([recent.has('k'), recent.get('k'), recent.list()]).toEqual([false, undefined, []]);
  });
});
