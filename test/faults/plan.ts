import { alone, drawFault, drawOrder } from './draw-steps';
import type { Plan, PlannedExecution, PlannedNode, Pool, Profile, Step, Team } from './plan-types';
import { Random } from './random';

export const PROFILES: Readonly<Record<Profile['name'], Profile>> = {
  full: {
    name: 'full',
    leaseMs: 3_000,
    heartbeatMs: 150,
    chaosMs: 5_000,
    settleMs: 1_500,
    proofMs: 10_000,
    executions: [3, 6],
    nodes: [2, 12],
    beats: [1, 12],
    orders: [2, 6],
    faults: [3, 7],
  },
  short: {
    name: 'short',
    leaseMs: 2_000,
    heartbeatMs: 100,
    chaosMs: 800,
    settleMs: 300,
    proofMs: 10_000,
    executions: [2, 3],
    nodes: [2, 4],
    beats: [1, 6],
    orders: [1, 3],
    faults: [1, 2],
  },
};

/** Beats of an agent that goes on until it is stopped. */
const LONG = 400;
const TEAMS: readonly Team[] = ['a', 'b'];
/** What the first worker's place takes, so that no pool is without one. */
const EVERY_POOL: readonly Pool[] = ['default', 'side'];

/** The plan of a seed. Pure. */
export function drawPlan(seed: number, profile: Profile): Plan {
  const random = new Random(seed);
  const among = ([least, most]: readonly [number, number]): number => random.between(least, most);
  const orchestrators = profile.name === 'short' ? 1 : random.between(1, 2);
  const workers = profile.name === 'short' ? 2 : random.between(2, 3);
  // With slots to spare: a takeover that has to wait for one would never be seen beside its predecessor.
  const concurrency = random.between(4, 10);
  const pools = Array.from({ length: workers }, (_, i) =>
    i === 0 ? EVERY_POOL : random.pick([['default'], ['side'], EVERY_POOL] as const),
  );
  const stopTimeoutMs = random.pick([200, 400, 2_000]);
  const drawn = Array.from({ length: among(profile.executions) }, (_, i) =>
    drawExecution(random, profile, i),
  );
  const submits = drawn.map((_, execution): Step => {
    // Most of it early, so that the faults find something running.
    const atMs = Math.floor(random.next() ** 2 * profile.chaosMs * 0.8);
    return { do: 'submit', execution, atMs };
  });
  const places = { workers, orchestrators, executions: drawn.length };
  const orders = Array.from({ length: among(profile.orders) }, () =>
    drawOrder(random, profile, places),
  ).flat();
  const faults = Array.from({ length: among(profile.faults) }, () => drawFault(random, profile, places));
  // Break-glass is for when nobody else can be asked.
  const without = orders.flatMap((step): Step[] =>
    step.do === 'break-glass' && random.chance(0.4)
      ? [{ do: 'fault', kind: 'server-kill9', place: 0, forMs: 700, atMs: Math.max(0, step.atMs - 200) }]
      : [],
  );
  const steps = [...submits, ...orders, ...alone([...faults, ...without], stopTimeoutMs)].toSorted(
    (a, b) => a.atMs - b.atMs,
  );
  // A job whose taker was killed waits for BullMQ's lock, longer than a seed lasts.
  const follow = steps.every((step) => step.do !== 'fault' || step.kind !== 'orchestrator-kill9');
  const executions = drawn.map((one) => ({ ...one, byQueue: one.byQueue && follow }));
  return {
    seed,
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

function drawExecution(random: Random, profile: Profile, index: number): PlannedExecution {
  const [timeoutMs, maxCostUsd] = [random.between(400, 1_200), random.between(2, 12) / 100];
  const [hasDeadline, hasBudget] = [random.chance(0.12), random.chance(0.18)];
  const count = random.between(...profile.nodes);
  const drawn = Array.from({ length: count }, (_, i) => drawNode(random, profile, i, hasBudget));
  // Most deadlines find something that would go on.
  const isEndless = hasDeadline && random.chance(0.7);
  const nodes = drawn.map((node, i) => (isEndless && i === 0 ? { ...node, beats: LONG } : node));
  return {
    name: `e${index}`,
    team: random.pick(TEAMS),
    onFailure: random.chance(0.6) ? 'continue' : 'stop',
    byQueue: random.chance(0.2),
    ...(hasDeadline ? { timeoutMs } : {}),
    ...(hasBudget ? { maxCostUsd } : {}),
    nodes,
  };
}

function drawNode(random: Random, profile: Profile, index: number, spends: boolean): PlannedNode {
  const dependsOn = new Set<string>();
  const dependencies = index === 0 ? 0 : random.between(0, 2);
  for (let k = 0; k < dependencies; k++) dependsOn.add(`n${random.between(0, index - 1)}`);
  const [timeoutMs, hasTimeout] = [random.between(300, 900), random.chance(0.1)];
  const isLong = random.chance(hasTimeout ? 0.5 : 0.08);
  return {
    id: `n${index}`,
    dependsOn: [...dependsOn],
    habit: random.pick(['polite', 'polite', 'deaf', 'grandchild', 'setsid'] as const),
    beats: isLong ? LONG : random.between(...profile.beats),
    code: random.chance(0.06) ? 7 : 0,
    maxAttempts: random.between(1, 4),
    pool: random.pick(['default', 'default', 'side'] as const),
    role: random.pick(['x', 'y'] as const),
    ...(hasTimeout ? { timeoutMs } : {}),
    ...(spends ? { usdPerBeat: 0.01 } : {}),
  };
}
