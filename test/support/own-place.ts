import { AsyncLocalStorage } from 'node:async_hooks';

/** Beside other tests, on a machine that may be busy: no test measures this time. Milliseconds. */
const PATIENCE_MS = 240_000;

type Body = () => Promise<void> | void;

/** Declares tests as `it` does. */
export interface OwnTest {
  (title: string, body: Body, timeoutMs?: number): void;
  each<T>(
    rows: readonly T[],
  ): (title: string, body: (row: T) => Promise<void> | void, timeoutMs?: number) => void;
}

/**
 * For a file whose tests do not share anything (a server, a fleet, a directory). Such tests mostly wait for leases, graces and
 * limits, so those of one `describe` run several at a time (`maxConcurrency` of jest.config.cjs).
 *
 * @param make gives a test its place, before its body.
 * @param endOf releases it, however the body ended.
 */
export function placePerTest<P extends object>(
  make: () => P,
  endOf: (place: P) => Promise<void>,
): { here: () => P; it: OwnTest } {
  const places = new AsyncLocalStorage<P>();
  const open = new Set<P>();
  const end = async (place: P): Promise<void> => {
    if (open.delete(place)) await endOf(place);
  };
  // A test that timed out did not reach its own end.
  afterAll(async () => void (await Promise.all([...open].map(end))), 60_000);

  const inPlace = async (body: Body): Promise<void> => {
    const place = make();
    open.add(place);
    try {
      await places.run(place, async () => body());
    } finally {
      await end(place);
    }
  };
  const patience = (timeoutMs = 0): number => Math.max(timeoutMs, PATIENCE_MS);
  const declare = (title: string, body: Body, timeoutMs?: number): void =>
    it.concurrent(title, async () => inPlace(body), patience(timeoutMs));
  const each: OwnTest['each'] = (rows) => (title, body, timeoutMs) =>
    it.concurrent.each(rows as never[])(
      title,
      async (row) => inPlace(async () => body(row)),
      patience(timeoutMs),
    );
  return {
    here: () => {
      const place = places.getStore();
      if (place === undefined) throw new Error('only a test that runs has a place');
      return place;
    },
    it: Object.assign(declare, { each }),
  };
}
