/** Where the fleet's state is. */
export const GROUNDS = ['server', 'sentinel', 'cluster'] as const;
export type GroundKind = (typeof GROUNDS)[number];

/** Everything one seed does, drawn before anything is started: the same seed is the same plan. */
export interface Plan {
  readonly seed: number;
  readonly ground: GroundKind;
  readonly profile: Profile;
  readonly orchestrators: number;
  readonly workers: number;
  readonly concurrency: number;
  /** Of each worker's place; every pool has one at least. */
  readonly pools: readonly (readonly Pool[])[];
  /** How long a draining worker lets its agents go on. */
  readonly stopTimeoutMs: number;
  readonly executions: readonly PlannedExecution[];
  /** By time. */
  readonly steps: readonly Step[];
}

export interface PlannedExecution {
  readonly name: string;
  readonly team: Team;
  /** No order of the plan ends it and nothing in it fails: it is to complete, whatever happens to the fleet. */
  readonly meant: boolean;
  readonly onFailure: 'stop' | 'continue';
  /** By a job of the producers' queue, instead of HTTP. */
  readonly byQueue: boolean;
  /** Deadline of the whole. */
  readonly timeoutMs?: number;
  readonly maxCostUsd?: number;
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
  readonly pool: Pool;
  readonly role: NodeRole;
  /** Deadline of one attempt. */
  readonly timeoutMs?: number;
  /** Said on fd 3 with every beat. */
  readonly usdPerBeat?: number;
  /** Bytes of its result. */
  readonly resultBytes?: number;
  /** Bytes of results that it is to be given; with less it fails. */
  readonly givenBytes?: number;
}

export type Team = 'a' | 'b';
/** A label of nodes. */
export type NodeRole = 'x' | 'y';
export type Pool = 'default' | 'side';
/** `flood`: it says more than anybody can store, on its output and about its progress. */
export type Habit = 'polite' | 'deaf' | 'grandchild' | 'setsid' | 'flood';

/** The kind of fault, as the table at the end counts it. */
export const FAULTS = [
  'worker-kill9',
  'worker-sigstop-short',
  'worker-sigstop-long',
  /** Between its claim and the answer to it, for longer than its lease. */
  'worker-sigstop-at-claim',
  'guardian-kill9',
  'worker-and-guardian-kill9',
  /** Both, and another worker in a PID namespace of its own works in the same data directory meanwhile: it can see nothing of them. */
  'worker-gone-unseen',
  /** Both, for longer than their lease, in a fleet that keeps no ended execution. */
  'worker-gone-pruned',
  /** SIGTERM, in the middle of work; another one takes the place. */
  'worker-drain',
  /** Three of them: no patience left. */
  'worker-drain-forced',
  'orchestrator-kill9',
  'orchestrator-drain',
  'server-kill9',
  /** It takes no writes: READONLY, as a failover's old primary says. */
  'server-readonly',
  /** Nor now: OOM. */
  'server-full',
  /** It answers nobody for a while. */
  'server-paused',
  'link-cut',
  'link-refused',
  'link-delayed',
  'link-stalled',
  'doorbell-lost',
  'logs-full',
  /** Of a worker's wall clock, and back. */
  'clock-step',
  /** Of the server's. */
  'server-clock-step',
  /** On many servers: one that only copies stands still; another is asked to take over from a living one. */
  'replica-paused',
  'server-failover',
  /** Somebody with a login writes into the orders log what is none. */
  'order-malformed',
  /** And rings the doorbell with an order that is in no log. */
  'doorbell-forged',
] as const;
export type FaultKind = (typeof FAULTS)[number];
/** An act asked of the product, or done to it. `worker` and `orchestrator` are places, not ids. */
export type Act =
  | { readonly do: 'submit'; readonly execution: number }
  | { readonly do: 'stop'; readonly execution: number }
  /** `pick`: which of those that run at that moment, as a part of their number. */
  | {
      readonly do: 'kill-agent';
      readonly pick: number;
      /** Of these executions only. */
      readonly among: readonly number[];
    }
  | { readonly do: 'kill-worker'; readonly worker: number; readonly holdMs: number }
  | { readonly do: 'kill-team'; readonly team: Team; readonly holdMs: number }
  | { readonly do: 'kill-pool'; readonly pool: Pool; readonly holdMs: number }
  | { readonly do: 'kill-role'; readonly role: NodeRole; readonly holdMs: number }
  | { readonly do: 'kill-all'; readonly holdMs: number }
  /** Nothing new starts; what runs goes on. */
  | { readonly do: 'latch-team'; readonly team: Team; readonly holdMs: number }
  | { readonly do: 'latch-pool'; readonly pool: Pool; readonly holdMs: number }
  | { readonly do: 'freeze-agent'; readonly pick: number; readonly holdMs: number }
  | { readonly do: 'freeze-team'; readonly team: Team; readonly holdMs: number }
  | {
      readonly do: 'pause';
      readonly execution: number;
      readonly mode: 'drain' | 'freeze';
      readonly holdMs: number;
    }
  /** Once it was stopped or has failed, if that is within `withinMs`. */
  | { readonly do: 'retry'; readonly execution: number; readonly withinMs: number }
  /** Over the worker's own socket, with nobody else asked. */
  | { readonly do: 'break-glass'; readonly worker: number; readonly holdMs: number }
  | { readonly do: 'drill'; readonly worker: number }
  | { readonly do: 'armed' }
  | {
      readonly do: 'fault';
      readonly kind: FaultKind;
      /** Of the worker or orchestrator it hits. */
      readonly place: number;
      /** How long it lasts, or until another process takes the place. */
      readonly forMs: number;
      /** Of a clock step. */
      readonly seconds?: number;
    };
/** Everything that is asked for and has an answer. */
export type Ask = Exclude<Act, { do: 'submit' | 'fault' }>;
export type Step = Act & { readonly atMs: number };

/** How long and how hard a seed is. Milliseconds. */
export interface Profile {
  readonly name: 'full' | 'short' | 'many';
  readonly leaseMs: number;
  readonly heartbeatMs: number;
  readonly chaosMs: number;
  /** The time that work without an end of its own runs on once all is healed. */
  readonly settleMs: number;
  /** The time that work with an end of its own may take once all is healed, beside its agents' own work. */
  readonly endMs: number;
  /** How long proof may take to complete what is open at the end. */
  readonly proofMs: number;
  readonly executions: readonly [number, number];
  readonly nodes: readonly [number, number];
  readonly beats: readonly [number, number];
  /** Of what is meant to complete. */
  readonly meantNodes: readonly [number, number];
  readonly meantBeats: readonly [number, number];
  readonly orders: readonly [number, number];
  readonly faults: readonly [number, number];
}
