import {
  FAULTS,
  type Act,
  type FaultKind,
  type GroundKind,
  type PlannedExecution,
  type Profile,
  type Step,
} from './plan-types';
import { Random } from './random';

/** These end a worker's lease, or start another worker: they take longer than a short seed. */
const TOO_LONG: readonly FaultKind[] = [
  'worker-sigstop-at-claim',
  'worker-gone-unseen',
  'worker-gone-pruned',
];
const SHORT_FAULTS = FAULTS.filter((kind) => !TOO_LONG.includes(kind));
/** An operator of many servers must not do these, or they need a proxy in between. */
const NOT_ON_MANY: readonly FaultKind[] = [
  ...TOO_LONG,
  'server-readonly',
  'server-paused',
  'server-clock-step',
  'link-delayed',
  'link-stalled',
  'doorbell-lost',
];
const ON_MANY_ONLY: readonly FaultKind[] = ['replica-paused', 'server-failover'];

/** Beyond its lease: executions that its attempts kept from ending have ended by then, and could have been removed. */
const GONE_MS = 3_000;

/**
 * The faults of a seed. All kinds are dealt from a shuffled deck before one comes again, over consecutive seeds, so that any
 * few seeds in a row show most of them.
 */
export function kindsOf(seed: number, profile: Profile, ground: GroundKind): readonly FaultKind[] {
  const kinds = kindsOn(ground, profile);
  const [, most] = profile.faults;
  return Array.from({ length: most }, (_, i) => {
    const at = seed * most + i;
    return shuffled(kinds, Math.floor(at / kinds.length))[at % kinds.length] as FaultKind;
  });
}

function shuffled<T>(items: readonly T[], seed: number): readonly T[] {
  const random = new Random(seed);
  return items
    .map((item) => ({ item, at: random.next() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

function kindsOn(ground: GroundKind, { name }: Profile): readonly FaultKind[] {
  const kinds = name === 'short' ? SHORT_FAULTS : FAULTS;
  return kinds.filter((kind) => !(ground === 'server' ? ON_MANY_ONLY : NOT_ON_MANY).includes(kind));
}
/** The time between two faults of one worker's processes. */
const APART_MS = 1_000;
const CLOCK_STEPS_S: readonly number[] = [1, 30, 3_600, 40 * 86_400];
/**
 * Steps of the server's clock. Waits by that clock last that much longer after the step back, and a seed cannot wait longer.
 */
const SERVER_STEPS_S: readonly number[] = [1, 4, 12];

/** The places that a fault can hit. */
export interface Places {
  readonly workers: number;
  readonly orchestrators: number;
  readonly executions: readonly PlannedExecution[];
  /** Whether orders are drawn that end everything on a worker, in a pool or in the fleet. */
  readonly isWide: boolean;
  readonly ground: GroundKind;
}

/** One act, or two that belong together. */
export function drawOrder(
  random: Random,
  { chaosMs }: Profile,
  { workers, executions, isWide }: Places,
): readonly Step[] {
  const atMs = random.between(Math.floor(chaosMs * 0.15), chaosMs);
  const holdMs = random.between(100, Math.floor(chaosMs * 0.4));
  const execution = random.between(0, executions.length - 1);
  const others = executions.flatMap(({ meant }, i) => (meant ? [] : i));
  const victim = random.pick(others.length === 0 ? [0] : others);
  const [pick, team, worker] = [
    random.next(),
    random.pick(['a', 'b'] as const),
    random.between(0, workers - 1),
  ];
  const mode = random.pick(['drain', 'freeze'] as const);
  const pool = random.pick(['default', 'side'] as const);
  const retry: Act = { do: 'retry', execution: victim, withinMs: Math.floor(chaosMs * 0.6) };
  const agent: Act = { do: 'kill-agent', pick, among: others };
  const harmless: readonly (readonly Act[])[] = [
    [{ do: 'latch-team', team, holdMs }],
    [{ do: 'latch-pool', pool, holdMs }],
    [{ do: 'freeze-agent', pick, holdMs }],
    [{ do: 'freeze-team', team, holdMs }],
    [{ do: 'pause', execution, mode, holdMs }],
    [{ do: 'pause', execution, mode, holdMs }],
    [{ do: 'drill', worker }],
    [{ do: 'armed' }],
  ];
  const aimed: readonly (readonly Act[])[] = [
    [{ do: 'stop', execution: victim }],
    [{ do: 'stop', execution: victim }, retry],
    [agent],
    [agent, retry],
    [{ do: 'kill-team', team: 'b', holdMs }],
    [{ do: 'kill-role', role: 'y', holdMs }],
  ];
  const wide: readonly (readonly Act[])[] = [
    [{ do: 'kill-worker', worker, holdMs }],
    [{ do: 'kill-worker', worker, holdMs }],
    [{ do: 'kill-team', team, holdMs }],
    [{ do: 'kill-pool', pool, holdMs }],
    [{ do: 'kill-role', role: random.pick(['x', 'y'] as const), holdMs }],
    [{ do: 'kill-all', holdMs }],
    [{ do: 'kill-agent', pick, among: executions.map((_, i) => i) }],
    [{ do: 'break-glass', worker, holdMs }],
    [{ do: 'break-glass', worker, holdMs }],
  ];
  // Without other targets, the aimed acts would hit executions that must complete.
  const acts = [...harmless, ...(others.length > 0 ? aimed : []), ...(isWide ? [...wide, ...wide] : [])];
  return random.pick(acts).map((act, i) => ({ ...act, atMs: atMs + 50 * i }));
}

/** Whether that step is an order which may end an agent of that execution. */
export function mayEnd(step: Step, { team, nodes }: PlannedExecution, index: number): boolean {
  switch (step.do) {
    case 'stop':
      return step.execution === index;
    case 'kill-agent':
      return step.among.includes(index);
    case 'kill-team':
      return step.team === team;
    case 'kill-pool':
      return nodes.some(({ pool }) => pool === step.pool);
    case 'kill-role':
      return nodes.some(({ role }) => role === step.role);
    case 'kill-worker':
    case 'kill-all':
    case 'break-glass':
      return true;
    case 'submit':
    case 'retry':
    case 'latch-team':
    case 'latch-pool':
    case 'freeze-agent':
    case 'freeze-team':
    case 'pause':
    case 'drill':
    case 'armed':
    case 'fault':
      return false;
  }
}

export function drawFault(
  random: Random,
  profile: Profile,
  { workers, orchestrators }: Places,
  kind: FaultKind,
): Step & { readonly do: 'fault' } {
  const { chaosMs, leaseMs } = profile;
  const place = random.between(0, (hitsOrchestrator(kind) ? orchestrators : workers) - 1);
  const atMs = random.between(Math.floor(chaosMs * 0.1), Math.floor(chaosMs * 0.9));
  // Around the two moments that matter: when a worker fences itself, and when its lease is over.
  const long =
    Math.floor(leaseMs * (1 + random.next() * 0.6)) + (kind === 'worker-sigstop-at-claim' ? 1_500 : 300);
  const short = random.between(50, Math.floor(profile.name === 'short' ? chaosMs / 2 : leaseMs * 0.7));
  const mayBeLong =
    kind.startsWith('link-') || ['server-readonly', 'server-full', 'server-paused'].includes(kind);
  const isLong =
    kind === 'worker-sigstop-long' ||
    kind === 'worker-sigstop-at-claim' ||
    (mayBeLong && random.chance(profile.name === 'short' ? 0.1 : 0.3));
  const isGone = kind.startsWith('worker-gone-');
  const steps = kind === 'server-clock-step' ? SERVER_STEPS_S : CLOCK_STEPS_S;
  const seconds = random.pick(steps) * (random.chance(0.5) ? -1 : 1);
  return {
    do: 'fault',
    kind,
    place,
    forMs: isGone ? leaseMs + GONE_MS : isLong ? long : short,
    ...(kind.endsWith('clock-step') ? { seconds } : {}),
    atMs,
  };
}

/**
 * A fault of a worker's processes must not meet it without its guardian by chance: the death of both at once is a fault of its
 * own, with its own allowance. Of two such faults on one place within a second the later one is left out, and so it is for two
 * of the server.
 */
export function alone(faults: readonly Step[], stopTimeoutMs: number): Step[] {
  const kept: Step[] = [];
  const isClash = (earlier: Step, later: Step): boolean => {
    if (earlier.do !== 'fault' || later.do !== 'fault') return false;
    const group = groupOf(earlier.kind);
    if (group === undefined || group !== groupOf(later.kind)) return false;
    if (group !== 'server' && earlier.place !== later.place) return false;
    const lasts = earlier.forMs + (earlier.kind.endsWith('-drain') ? stopTimeoutMs : 0);
    return later.atMs < earlier.atMs + lasts + APART_MS;
  };
  for (const step of faults.toSorted((a, b) => a.atMs - b.atMs))
    if (!kept.some((other) => isClash(other, step))) kept.push(step);
  return kept;
}

function groupOf(kind: FaultKind): 'worker' | 'orchestrator' | 'server' | undefined {
  if (kind.startsWith('worker-') || kind === 'guardian-kill9') return 'worker';
  if (hitsOrchestrator(kind)) return 'orchestrator';
  return hitsServer(kind) ? 'server' : undefined;
}

export const hitsOrchestrator = (kind: FaultKind): boolean => kind.startsWith('orchestrator-');
/** Whether the fault hits all of the fleet at once. */
export const hitsServer = (kind: FaultKind): boolean => /^(server|replica)-/.test(kind);
/** Whether the fault is a foreign write, and no fault of a process. */
export const isIntrusion = (kind: FaultKind): boolean => /^(order|doorbell)-(malformed|forged)$/.test(kind);
