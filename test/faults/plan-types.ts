/** The servers of the fleet's state. */
export const GROUNDS = ['server', 'sentinel', 'cluster'] as const;
export type GroundKind = (typeof GROUNDS)[number];

/** Everything that one seed does, drawn before anything is started: the same seed is the same plan. */
export interface Plan {
  readonly seed: number;
  readonly ground: GroundKind;
  readonly profile: Profile;
  readonly orchestrators: number;
  readonly workers: number;
  readonly concurrency: number;
  /** For each worker's place; every pool has at least one. */
  readonly pools: readonly (readonly Pool[])[];
  /** A draining worker lets its agents go on for this long. */
  readonly stopTimeoutMs: number;
  readonly executions: readonly PlannedExecution[];
  /** In order of time. */
  readonly steps: readonly Step[];
}

export interface PlannedExecution {
  readonly name: string;
  readonly team: Team;
  /** No order of the plan ends it and nothing in it fails: it must complete, whatever happens to the fleet. */
  readonly meant: boolean;
  readonly onFailure: 'stop' | 'continue';
  /** Submitted as a job of the producers' queue, and not over HTTP. */
  readonly byQueue: boolean;
  /** The deadline of the whole execution. */
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
  /** The deadline of one attempt. */
  readonly timeoutMs?: number;
  /** Reported on fd 3 with every beat. */
  readonly usdPerBeat?: number;
  readonly resultBytes?: number;
  /** Bytes of results that it must get; with less it fails. */
  readonly givenBytes?: number;
}

export type Team = 'a' | 'b';
/** A label of nodes. */
export type NodeRole = 'x' | 'y';
export type Pool = 'default' | 'side';
/** `flood`: it writes more than can be stored, on its output and as progress. */
export type Habit = 'polite' | 'deaf' | 'grandchild' | 'setsid' | 'flood';

/** The kind of fault, as the table at the end counts it. */
export const FAULTS = [
  'worker-kill9',
  'worker-sigstop-short',
  'worker-sigstop-long',
  /** Between its claim and the answer, for longer than its lease. */
  'worker-sigstop-at-claim',
  'guardian-kill9',
  'worker-and-guardian-kill9',
  /** Both, while another worker in a PID namespace of its own works in the same data directory: it cannot see any of them. */
  'worker-gone-unseen',
  /** Both, for longer than their lease, in a fleet that keeps no ended execution. */
  'worker-gone-pruned',
  /** SIGTERM during work; another worker takes the place. */
  'worker-drain',
  /** Three signals: no patience left. */
  'worker-drain-forced',
  'orchestrator-kill9',
  'orchestrator-drain',
  'server-kill9',
  /** It refuses writes with READONLY, like a failover's old primary. */
  'server-readonly',
  /** It refuses writes with OOM. */
  'server-full',
  /** It answers no client for a while. */
  'server-paused',
  'link-cut',
  'link-refused',
  'link-delayed',
  'link-stalled',
  'doorbell-lost',
  'logs-full',
  /** A step of a worker's wall clock, and back. */
  'clock-step',
  /** The same for the server. */
  'server-clock-step',
  /** On many servers: a replica is suspended; another server is asked to take over from a live primary. */
  'replica-paused',
  'server-failover',
  /** A client with a login writes an entry that is no order into the orders log. */
  'order-malformed',
  /** And rings the doorbell with an order that is in no log. */
  'doorbell-forged',
] as const;
export type FaultKind = (typeof FAULTS)[number];
/** An act requested of the product, or done to it. `worker` and `orchestrator` are places, not ids. */
export type Act =
  | { readonly do: 'submit'; readonly execution: number }
  | { readonly do: 'stop'; readonly execution: number }
  /** `pick`: which of the agents that run at that moment, as a fraction of their number. */
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
  /** Nothing new starts; running agents go on. */
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
  /** Over the worker's own socket, without the server. */
  | { readonly do: 'break-glass'; readonly worker: number; readonly holdMs: number }
  | { readonly do: 'drill'; readonly worker: number }
  | { readonly do: 'armed' }
  | {
      readonly do: 'fault';
      readonly kind: FaultKind;
      /** The place of the worker or orchestrator that it hits. */
      readonly place: number;
      /** How long it lasts, or until another process takes the place. */
      readonly forMs: number;
      /** The size of a clock step. */
      readonly seconds?: number;
    };
/** Every act that is requested and answered. */
export type Ask = Exclude<Act, { do: 'submit' | 'fault' }>;
export type Step = Act & { readonly atMs: number };

/** How long and how hard a seed is. Milliseconds. */
export interface Profile {
  readonly name: 'full' | 'short' | 'many';
  readonly leaseMs: number;
  readonly heartbeatMs: number;
  readonly chaosMs: number;
  /** The time for which endless work runs on once all is healed. */
  readonly settleMs: number;
  /** The time that other work may take once all is healed, beside its agents' own work. */
  readonly endMs: number;
  /** The time for proofs of orders that are open at the end. */
  readonly proofMs: number;
  readonly executions: readonly [number, number];
  readonly nodes: readonly [number, number];
  readonly beats: readonly [number, number];
  /** The number of nodes of executions that must complete. */
  readonly meantNodes: readonly [number, number];
  readonly meantBeats: readonly [number, number];
  readonly orders: readonly [number, number];
  readonly faults: readonly [number, number];
}
