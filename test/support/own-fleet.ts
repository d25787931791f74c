import { AsyncLocalStorage } from 'node:async_hooks';
import { startFleet, type Fleet } from './fleet';

type FleetOptions = NonNullable<Parameters<typeof startFleet>[0]>;

/** Beside others, and on a machine that may be busy: no test is about this number. Milliseconds. */
const PATIENCE_MS = 120_000;

/** What one test has started. */
interface Place {
  fleet?: Fleet;
  /** What else it has to give back, once its fleet is gone. */
  readonly others: (() => Promise<unknown> | void)[];
}

type Body = () => Promise<void>;

/** Declares tests as `it` does. */
export interface OwnTest {
  (title: string, body: Body, timeoutMs?: number): void;
  each<T>(rows: readonly T[]): (title: string, body: (row: T) => Promise<void>, timeoutMs?: number) => void;
}

/**
 * For a file whose tests each have a fleet of their own, and a server: such tests wait for leases, graces and limits
 * far more than they work, so those of one `describe` run several at a time (`maxConcurrency` of jest.config.cjs).
 *
 * `fleet` is that of the test which reads it. It is stopped when the test ends, and then what `onEnd` was told.
 */
export function fleetPerTest(): {
  fleet: Fleet;
  begin: (options?: FleetOptions) => Promise<Fleet>;
  onEnd: (give: () => Promise<unknown> | void) => void;
  it: OwnTest;
} {
  const places = new AsyncLocalStorage<Place>();
  const open = new Set<Place>();
  const stop = async (place: Place): Promise<void> => {
    if (!open.delete(place)) return;
    try {
      await place.fleet?.stop();
    } finally {
      for (const give of place.others.toReversed()) await give();
    }
  };
  const here = (): Place => {
    const place = places.getStore();
    if (place === undefined) throw new Error('what a test begins is begun inside of it');
    return place;
  };
  // A test that timed out never came to its own end.
  afterAll(async () => void (await Promise.all([...open].map(stop))), 60_000);

  const inPlace = async (body: Body): Promise<void> => {
    const place: Place = { others: [] };
    open.add(place);
    try {
      await places.run(place, body);
    } finally {
      await stop(place);
    }
  };
  const declare = (title: string, body: Body, timeoutMs?: number): void =>
    it.concurrent(title, async () => inPlace(body), patience(timeoutMs));
  const each: OwnTest['each'] = (rows) => (title, body, timeoutMs) =>
    it.concurrent.each(rows as never[])(
      title,
      async (row) => inPlace(async () => body(row)),
      patience(timeoutMs),
    );
  return {
    fleet: new Proxy({} as Fleet, {
      get(_target, name) {
        const fleet = places.getStore()?.fleet;
        if (fleet === undefined) throw new Error(`fleet.${String(name)} was read where no fleet was begun`);
        return Reflect.get(fleet, name, fleet) as unknown;
      },
    }),
    begin: async (options) => {
      const place = here();
      place.fleet = await startFleet(options);
      return place.fleet;
    },
    onEnd: (give) => void here().others.push(give),
    it: Object.assign(declare, { each }),
  };
}

const patience = (timeoutMs = 0): number => Math.max(timeoutMs, PATIENCE_MS);
