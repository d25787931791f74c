import { LeaseWatch } from './lease-watch';

const lease = (endsAt: number, lengthMs = 1_000) => ({ workerId: 'wrk_1', endsAt, lengthMs });

describe('R26 a lease runs out', () => {
  it('once it was seen unrenewed for its whole length, whatever the server’s clock says', () => {
    const watch = new LeaseWatch();
    const begun = performance.now();
    // The lease is long over by the server's clock, or far ahead of it. Nobody has looked for long enough.
    expect(watch.look([lease(5)], begun)).toEqual([]);
    expect(watch.look([lease(5)], begun + 900)).toEqual([]);
    expect(watch.look([lease(5)], begun + 2_000)).toEqual([lease(5)]);
  });

  it('and not while it is renewed, by a clock that steps back too', () => {
    const watch = new LeaseWatch();
    const begun = performance.now();
    for (const [at, endsAt] of [
      [0, 9_000],
      [900, 9_900],
      [1_800, 800],
      [2_700, 1_700],
    ] as const)
      expect(watch.look([lease(endsAt)], begun + at)).toEqual([]);
  });

  it('never where its length is not known; one that is gone is forgotten', () => {
    const watch = new LeaseWatch();
    const begun = performance.now();
    watch.look([lease(5, Number.NaN)], begun);
    expect(watch.look([lease(5, Number.NaN)], begun + 1e9)).toEqual([]);
    watch.look([], begun);
    expect(watch.look([lease(5)], begun + 1e9)).toEqual([]);
  });
});
