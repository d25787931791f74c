import { drawExecution } from './draw-executions';
import { alone, drawFault, drawOrder, kindsOf, mayEnd } from './draw-steps';
import type { FaultKind, GroundKind, Plan, Pool, Profile, Step } from './plan-types';
import { Random } from './random';

/** Longer leases: a failover must be over before workers fence themselves (docs/deployment.md). */
const MANY: Partial<Profile> = {
  name: 'many',
  leaseMs: 9_000,
  heartbeatMs: 250,
  chaosMs: 7_000,
  faults: [2, 5],
};

const ON_ONE_SERVER: Readonly<Record<'full' | 'short', Profile>> = {
  full: {
    name: 'full',
    leaseMs: 3_000,
    heartbeatMs: 150,
    chaosMs: 5_000,
    settleMs: 1_500,
    endMs: 30_000,
    proofMs: 10_000,
    executions: [3, 6],
    nodes: [2, 12],
    beats: [1, 12],
    meantNodes: [2, 10],
    meantBeats: [1, 6],
    orders: [2, 6],
    faults: [3, 7],
  },
  short: {
    name: 'short',
    leaseMs: 2_000,
    heartbeatMs: 100,
    chaosMs: 800,
    settleMs: 300,
    endMs: 30_000,
    proofMs: 10_000,
    executions: [2, 3],
    nodes: [2, 4],
    beats: [1, 6],
    meantNodes: [2, 4],
    meantBeats: [1, 4],
    orders: [1, 3],
    faults: [2, 3],
  },
};

export const PROFILES: Readonly<Record<Profile['name'], Profile>> = {
  ...ON_ONE_SERVER,
  many: { ...ON_ONE_SERVER.full, ...MANY },
};

/** The share of seeds whose orders may end more than their target: everything on a worker, in a pool, in the fleet. */
const WIDE = 0.3;
/** The pools of the first worker's place, so that no pool is without a worker. */
const EVERY_POOL: readonly Pool[] = ['default', 'side'];

export const hasFault = ({ steps }: Pick<Plan, 'steps'>, kind: FaultKind): boolean =>
  steps.some((step) => step.do === 'fault' && step.kind === kind);

/** The plan of a seed. Pure. */
export function drawPlan(seed: number, profile: Profile, ground: GroundKind = 'server'): Plan {
  const random = new Random(seed);
  const among = ([least, most]: readonly [number, number]): number => random.between(least, most);
  const orchestrators = profile.name === 'short' ? 1 : random.between(1, 2);
  const workers = profile.name === 'short' ? 2 : random.between(2, 3);
  // With slots to spare: a takeover that waits for a slot would never be seen beside its predecessor.
  const concurrency = random.between(4, 10);
  const pools = Array.from({ length: workers }, (_, i) =>
    i === 0 ? EVERY_POOL : random.pick([['default'], ['side'], EVERY_POOL] as const),
  );
  const stopTimeoutMs = random.pick([200, 400, 2_000]);
  const drawn = Array.from({ length: among(profile.executions) }, (_, i) =>
    drawExecution(random, profile, i),
  );
  const submits = drawn.map((_, execution): Step => {
    // Most of it early, so that the faults meet running work.
    const atMs = Math.floor(random.next() ** 2 * profile.chaosMs * 0.8);
    return { do: 'submit', execution, atMs };
  });
  const places = { workers, orchestrators, executions: drawn, isWide: random.chance(WIDE), ground };
  const orders = Array.from({ length: among(profile.orders) }, () =>
    drawOrder(random, profile, places),
  ).flat();
  const kinds = kindsOf(seed, profile, ground);
  const faults = Array.from({ length: among(profile.faults) }, (_, i) =>
    drawFault(random, profile, places, kinds[i] as FaultKind),
  );
  // Break-glass is for when no orchestrator can be asked.
  const without = orders.flatMap((step): Step[] =>
    step.do === 'break-glass' && random.chance(0.4)
      ? [{ do: 'fault', kind: 'server-kill9', place: 0, forMs: 700, atMs: Math.max(0, step.atMs - 200) }]
      : [],
  );
  const steps = [...submits, ...orders, ...alone([...faults, ...without], stopTimeoutMs)].toSorted(
    (a, b) => a.atMs - b.atMs,
  );
  // A job whose process was killed waits for BullMQ's lock, longer than a seed lasts. So does one whose execution is gone.
  const follow = !hasFault({ steps }, 'orchestrator-kill9') && !hasFault({ steps }, 'worker-gone-pruned');
  const executions = drawn.map((one, i) => ({
    ...one,
    byQueue: one.byQueue && follow,
    meant: one.meant && !steps.some((step) => mayEnd(step, one, i)),
  }));
  return {
    seed,
    ground,
    profile,
    orchestrators,
    workers,
    concurrency,
    pools,
    stopTimeoutMs,
    executions,
    steps,
  };
}
