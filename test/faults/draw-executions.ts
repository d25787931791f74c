import type { PlannedExecution, PlannedNode, Profile, Team } from './plan-types';
import type { Random } from './random';

/** The beats of an agent that goes on until it is stopped. */
export const LONG = 400;
/** The share of executions at which no order of their seed is aimed. */
const MEANT = 0.85;
/** Shares of executions with a wide fan-in, and of nodes that flood. */
const [WIDE_FAN, FLOOD] = [0.08, 0.015];
/** More than the faults of a seed can take from one node. */
const ATTEMPTS_MEANT = 30;
/** Orders that end something are aimed at the other team, and at nodes of the other role. */
const [SPARED_TEAM, SPARED_ROLE] = ['a', 'x'] as const;

/**
 * One execution. `meant`: it must complete, whatever happens to the fleet: nothing in it fails, ends late or has a bound, and
 * its attempts suffice. The others have deadlines, budgets, time-outs, failing and endless nodes.
 */
export function drawExecution(random: Random, profile: Profile, index: number): PlannedExecution {
  if (!random.chance(MEANT)) return drawOther(random, profile, index);
  const isWide = profile.name !== 'short' && random.chance(WIDE_FAN);
  return isWide ? drawFanIn(random, index) : drawMeant(random, profile, index);
}

/** Many nodes with a result, and one that gets all results and checks that. */
function drawFanIn(random: Random, index: number): PlannedExecution {
  const [count, resultBytes] = [random.between(10, 40), random.between(1_000, 60_000)];
  const base = { code: 0, maxAttempts: ATTEMPTS_MEANT, role: SPARED_ROLE, habit: 'polite' } as const;
  const parents = Array.from({ length: count }, (_, i): PlannedNode => ({
    ...base,
    id: `n${i}`,
    dependsOn: [],
    beats: 1,
    pool: random.pick(['default', 'side'] as const),
    resultBytes,
  }));
  const last: PlannedNode = {
    ...base,
    id: `n${count}`,
    dependsOn: parents.map(({ id }) => id),
    beats: 1,
    pool: 'default',
    givenBytes: count * resultBytes,
  };
  return {
    name: `e${index}`,
    team: SPARED_TEAM,
    meant: true,
    onFailure: 'continue',
    byQueue: false,
    nodes: [...parents, last],
  };
}

function drawMeant(random: Random, { meantNodes, meantBeats }: Profile, index: number): PlannedExecution {
  const nodes = Array.from({ length: random.between(...meantNodes) }, (_, i): PlannedNode => ({
    ...drawShape(random, i),
    beats: random.between(...meantBeats),
    code: 0,
    maxAttempts: ATTEMPTS_MEANT,
    role: SPARED_ROLE,
  }));
  return {
    name: `e${index}`,
    team: SPARED_TEAM,
    meant: true,
    onFailure: random.chance(0.6) ? 'continue' : 'stop',
    byQueue: random.chance(0.2),
    nodes,
  };
}

function drawOther(random: Random, profile: Profile, index: number): PlannedExecution {
  const [timeoutMs, maxCostUsd] = [random.between(400, 1_200), random.between(2, 12) / 100];
  const [hasDeadline, hasBudget] = [random.chance(0.25), random.chance(0.3)];
  const count = random.between(...profile.nodes);
  const drawn = Array.from({ length: count }, (_, i) => drawNode(random, profile, i, hasBudget));
  // Most deadlines meet work that would go on.
  const isEndless = hasDeadline && random.chance(0.7);
  const nodes = drawn.map((node, i) => (isEndless && i === 0 ? { ...node, beats: LONG } : node));
  const teams: readonly Team[] = ['b', 'b', 'a'];
  return {
    name: `e${index}`,
    team: random.pick(teams),
    meant: false,
    onFailure: random.chance(0.6) ? 'continue' : 'stop',
    byQueue: random.chance(0.2),
    ...(hasDeadline ? { timeoutMs } : {}),
    ...(hasBudget ? { maxCostUsd } : {}),
    nodes,
  };
}

function drawNode(random: Random, profile: Profile, index: number, spends: boolean): PlannedNode {
  const shape = drawShape(random, index);
  const [timeoutMs, hasTimeout] = [random.between(300, 900), random.chance(0.15)];
  const isLong = random.chance(hasTimeout ? 0.5 : 0.15);
  return {
    ...shape,
    beats: isLong ? LONG : random.between(...profile.beats),
    code: random.chance(0.1) ? 7 : 0,
    maxAttempts: random.between(1, 4),
    role: random.pick(['x', 'y'] as const),
    ...(hasTimeout ? { timeoutMs } : {}),
    ...(spends ? { usdPerBeat: 0.01 } : {}),
  };
}

function drawShape(random: Random, index: number): Pick<PlannedNode, 'id' | 'dependsOn' | 'habit' | 'pool'> {
  const dependsOn = new Set<string>();
  const dependencies = index === 0 ? 0 : random.between(0, 2);
  for (let k = 0; k < dependencies; k++) dependsOn.add(`n${random.between(0, index - 1)}`);
  return {
    id: `n${index}`,
    dependsOn: [...dependsOn],
    habit: random.chance(FLOOD)
      ? 'flood'
      : random.pick(['polite', 'polite', 'deaf', 'grandchild', 'setsid'] as const),
    pool: random.pick(['default', 'default', 'side'] as const),
  };
}

/** Only an order ends it: a node goes on, and neither a time-out, a deadline nor a budget bounds it. */
export function isEndless({ timeoutMs, maxCostUsd, nodes }: PlannedExecution): boolean {
  if (timeoutMs !== undefined) return false;
  return nodes.some(
    (node) =>
      node.beats >= LONG &&
      node.timeoutMs === undefined &&
      (maxCostUsd === undefined || node.usdPerBeat === undefined),
  );
}

/** Milliseconds of its agents' work, if they ran one after the other, each as often as it may by itself. */
export function workOf({ nodes, meant }: PlannedExecution): number {
  return nodes.reduce((sum, { beats, maxAttempts, timeoutMs = Infinity }) => {
    const once = Math.min(beats * 100, timeoutMs);
    return sum + once * (meant ? 1 : maxAttempts);
  }, 0);
}
