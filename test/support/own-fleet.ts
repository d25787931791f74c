import { startFleet, type Fleet } from './fleet';
import { placePerTest, type OwnTest } from './own-place';

type FleetOptions = NonNullable<Parameters<typeof startFleet>[0]>;

/** Everything that one test has started. */
interface Place {
  fleet?: Fleet;
  /** Further resources to release, once the fleet is gone. */
  readonly others: (() => Promise<unknown> | void)[];
}

/**
 * Like `placePerTest`, for tests with a fleet of their own. `fleet` is that of the test which reads it. It is stopped when the
 * test ends; then the functions passed to `onEnd` run, the last first.
 */
export function fleetPerTest(): {
  fleet: Fleet;
  begin: (options?: FleetOptions) => Promise<Fleet>;
  onEnd: (give: () => Promise<unknown> | void) => void;
  it: OwnTest;
} {
  const { here, it } = placePerTest<Place>(
    () => ({ others: [] }),
    async (place) => {
      try {
        await place.fleet?.stop();
      } finally {
        for (const give of place.others.toReversed()) await give();
      }
    },
  );
  return {
    fleet: new Proxy({} as Fleet, {
      get(_target, name) {
        const { fleet } = here();
        if (fleet === undefined) throw new Error(`fleet.${String(name)} was read where no fleet was begun`);
        return Reflect.get(fleet, name, fleet) as unknown;
      },
    }),
    begin: async (options) => (here().fleet = await startFleet(options)),
    onEnd: (give) => void here().others.push(give),
    it,
  };
}
