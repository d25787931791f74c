import { Random } from './random';

/** Everything one seed does, drawn before anything is started: the same seed is the same plan. */
export interface Plan {
  readonly seed: number;
  readonly profile: Profile;
  readonly orchestrators: number;
  readonly workers: number;
  readonly concurrency: number;
  readonly executions: readonly PlannedExecution[];
  /** By time. */
  readonly steps: readonly Step[];
}

export interface PlannedExecution {
  readonly name: string;
  readonly team: Team;
  readonly onFailure: 'stop' | 'continue';
  readonly nodes: readonly PlannedNode[];
}

export interface PlannedNode {
  readonly id: string;
  readonly dependsOn: readonly string[];
  readonly habit: Habit;
  /** About 100 ms each. */
  readonly beats: number;
  readonly code: number;
  readonly maxAttempts: number;
}

export type Team = 'a' | 'b';
export type Habit = 'polite' | 'deaf' | 'grandchild' | 'setsid';

/** Which fault, as the table at the end counts them. */
export const FAULTS = [
  'worker-kill9',
  'worker-sigstop-short',
  'worker-sigstop-long',
  /** Between its claim and the answer to it, for longer than its lease. */
  'worker-sigstop-at-claim',
  'guardian-kill9',
  'worker-and-guardian-kill9',
  'orchestrator-kill9',
  'server-kill9',
  'link-cut',
  'link-refused',
  'link-delayed',
  'link-stalled',
  'doorbell-lost',
  'logs-full',
] as const;
export type FaultKind = (typeof FAULTS)[number];
/** Waking after its lease with a claim in hand takes longer than a short seed has. */
const SHORT_FAULTS = FAULTS.filter((kind) => kind !== 'worker-sigstop-at-claim');

/** What is asked of the product, and what is done to it. `worker` and `orchestrator` are places, not ids. */
export type Act =
  | { readonly do: 'submit'; readonly execution: number }
  | { readonly do: 'stop'; readonly execution: number }
  /** `pick`: which of those that run at that moment, as a part of their number. */
  | { readonly do: 'kill-agent'; readonly pick: number }
  | { readonly do: 'kill-worker'; readonly worker: number; readonly holdMs: number }
  | { readonly do: 'kill-team'; readonly team: Team; readonly holdMs: number }
  | { readonly do: 'kill-all'; readonly holdMs: number }
  /** Nothing new starts; what runs goes on. */
  | { readonly do: 'latch-team'; readonly team: Team; readonly holdMs: number }
  | { readonly do: 'freeze-agent'; readonly pick: number; readonly holdMs: number }
  | { readonly do: 'freeze-team'; readonly team: Team; readonly holdMs: number }
  | {
      readonly do: 'pause';
      readonly execution: number;
      readonly mode: 'drain' | 'freeze';
      readonly holdMs: number;
    }
  | {
      readonly do: 'fault';
      readonly kind: FaultKind;
      /** Of the worker or orchestrator it hits. */
      readonly place: number;
      /** How long it lasts, or until another process takes the place. */
      readonly forMs: number;
    };
export type Step = Act & { readonly atMs: number };

/** How long and how hard a seed is. Milliseconds. */
export interface Profile {
  readonly name: 'full' | 'short';
  readonly leaseMs: number;
  readonly heartbeatMs: number;
  readonly chaosMs: number;
  /** How long what runs may end by itself once all is healed. */
  readonly settleMs: number;
  /** How long proof may take to complete what is open at the end. */
  readonly proofMs: number;
  readonly executions: readonly [number, number];
  readonly nodes: readonly [number, number];
  readonly beats: readonly [number, number];
  readonly orders: readonly [number, number];
  readonly faults: readonly [number, number];
}

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
    orders: [1, 2],
    faults: [1, 2],
  },
};

/** Beats of an agent that goes on until it is stopped. */
const LONG = 400;
const TEAMS: readonly Team[] = ['a', 'b'];

/** The plan of a seed. Pure. */
export function drawPlan(seed: number, profile: Profile): Plan {
  const random = new Random(seed);
  const among = ([least, most]: readonly [number, number]): number => random.between(least, most);
  const orchestrators = profile.name === 'short' ? 1 : random.between(1, 2);
  const workers = profile.name === 'short' ? 2 : random.between(2, 3);
  // With slots to spare: a takeover that has to wait for one would never be seen beside its predecessor.
  const concurrency = random.between(4, 10);
  const executions = Array.from({ length: among(profile.executions) }, (_, i) =>
    drawExecution(random, profile, i),
  );
  const submits = executions.map((_, execution): Step => {
    // Most of it early, so that the faults find something running.
    const atMs = Math.floor(random.next() ** 2 * profile.chaosMs * 0.8);
    return { do: 'submit', execution, atMs };
  });
  const drawn = { workers, orchestrators, executions: executions.length };
  const orders = Array.from({ length: among(profile.orders) }, () => drawOrder(random, profile, drawn));
  const faults = Array.from({ length: among(profile.faults) }, () => drawFault(random, profile, drawn));
  const steps = [...submits, ...orders, ...apart(faults)].toSorted((a, b) => a.atMs - b.atMs);
  return { seed, profile, orchestrators, workers, concurrency, executions, steps };
}

function drawExecution(random: Random, profile: Profile, index: number): PlannedExecution {
  const count = random.between(...profile.nodes);
  const nodes = Array.from({ length: count }, (_, i): PlannedNode => {
    const dependsOn = new Set<string>();
    const dependencies = i === 0 ? 0 : random.between(0, 2);
    for (let k = 0; k < dependencies; k++) dependsOn.add(`n${random.between(0, i - 1)}`);
    return {
      id: `n${i}`,
      dependsOn: [...dependsOn],
      habit: random.pick(['polite', 'polite', 'deaf', 'grandchild', 'setsid'] as const),
      beats: random.chance(0.08) ? LONG : random.between(...profile.beats),
      code: random.chance(0.06) ? 7 : 0,
      maxAttempts: random.between(1, 4),
    };
  });
  const onFailure = random.chance(0.6) ? 'continue' : 'stop';
  return { name: `e${index}`, team: random.pick(TEAMS), onFailure, nodes };
}

interface Drawn {
  readonly workers: number;
  readonly orchestrators: number;
  readonly executions: number;
}

function drawOrder(random: Random, { chaosMs }: Profile, { workers, executions }: Drawn): Step {
  const atMs = random.between(Math.floor(chaosMs * 0.15), chaosMs);
  const holdMs = random.between(100, Math.floor(chaosMs * 0.4));
  const execution = random.between(0, executions - 1);
  const [pick, team, worker] = [random.next(), random.pick(TEAMS), random.between(0, workers - 1)];
  const mode = random.pick(['drain', 'freeze'] as const);
  const acts: readonly Act[] = [
    { do: 'stop', execution },
    { do: 'stop', execution },
    { do: 'kill-agent', pick },
    { do: 'kill-worker', worker, holdMs },
    { do: 'kill-worker', worker, holdMs },
    { do: 'latch-team', team, holdMs },
    { do: 'kill-team', team, holdMs },
    { do: 'kill-all', holdMs },
    { do: 'freeze-agent', pick, holdMs },
    { do: 'freeze-team', team, holdMs },
    { do: 'pause', execution, mode, holdMs },
  ];
  return { ...random.pick(acts), atMs };
}

function drawFault(random: Random, profile: Profile, { workers, orchestrators }: Drawn): Step {
  const { chaosMs, leaseMs } = profile;
  const kind = random.pick(profile.name === 'short' ? SHORT_FAULTS : FAULTS);
  const place =
    kind === 'orchestrator-kill9' ? random.between(0, orchestrators - 1) : random.between(0, workers - 1);
  const atMs = random.between(Math.floor(chaosMs * 0.1), Math.floor(chaosMs * 0.9));
  // Around the two moments that matter: when a worker fences itself, and when its lease is over.
  const long =
    Math.floor(leaseMs * (1 + random.next() * 0.6)) + (kind === 'worker-sigstop-at-claim' ? 1_500 : 300);
  const short = random.between(50, Math.floor(profile.name === 'short' ? chaosMs / 2 : leaseMs * 0.7));
  const isLong =
    kind === 'worker-sigstop-long' ||
    kind === 'worker-sigstop-at-claim' ||
    (kind.startsWith('link-') && random.chance(profile.name === 'short' ? 0.1 : 0.3));
  return { do: 'fault', kind, place, forMs: isLong ? long : short, atMs };
}

/**
 * What hits a worker's processes must not find it without its guardian by chance: both dead at once is a fault of its
 * own here, with its own allowance. Of two such faults on one worker within a second the later one is left out.
 */
function apart(faults: readonly Step[]): Step[] {
  const kept: Step[] = [];
  for (const step of faults.toSorted((a, b) => a.atMs - b.atMs)) {
    const clash = kept.some(
      (other) =>
        other.do === 'fault' &&
        step.do === 'fault' &&
        hitsWorker(other.kind) &&
        hitsWorker(step.kind) &&
        other.place === step.place &&
        step.atMs < other.atMs + other.forMs + 1_000,
    );
    if (!clash) kept.push(step);
  }
  return kept;
}

export function hitsWorker(kind: FaultKind): boolean {
  return kind.startsWith('worker-') || kind === 'guardian-kill9';
}
