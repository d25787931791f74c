import type { AgentMessage, NodeSpec, Order, StopReport } from '#libs/contracts';
import type { AgentOutcome, Claim, Fence, FinishResult, StartedProcess } from '#libs/lifecycle';
import type { AgentSlot } from './agent-slot';

/** The process of one attempt of a handler. */
export interface HandlerProgram {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** How processes of handlers are started ahead of their attempts. The name of the handler comes with the attempt. */
export interface WaitingProgram {
  readonly command: readonly string[];
  /** Of the application, now. A process that was started with another one is not used any more. */
  readonly env: () => Readonly<Record<string, string>>;
  /** So many wait at a time. */
  readonly count: number;
}

export interface RunnerOptions {
  readonly workerId: string;
  readonly workDir: string;
  readonly logDir: string;
  /** Bytes of log files there before those of ended agents go, the oldest first. Default 1 GiB. */
  readonly maxLogBytes?: number;
  /** Grace where neither node nor execution says. Milliseconds. */
  readonly graceMs: number;
  /** Stores an attempt's end and drives the graph on; the worker app binds AttemptEnds.end here. */
  readonly finish: (
    fence: Fence,
    outcome: AgentOutcome,
    node: NodeSpec,
    start?: StartedProcess,
  ) => Promise<FinishResult>;
  readonly onError?: (error: unknown, agentId: string) => void;
  /** The program of a handler that this worker declares; undefined: it has none of that name. Default: it has none at all. */
  readonly handlerProgram?: (handler: string) => HandlerProgram | undefined;
  /** Variables of one attempt, by which it reaches its worker. Default: none. */
  readonly agentEnv?: (fence: Fence) => Readonly<Record<string, string>>;
  /** Processes that wait for attempts of handlers. Default: none, each attempt starts its own. */
  readonly ahead?: WaitingProgram | undefined;
  /** Hears each report of an agent as it comes, beside its storing. Must not throw. */
  readonly onMessage?: (message: AgentMessage, claim: Granted) => void;
  /** Asked about each claim before anything is spawned: an order still open may cover it. Bounded by its own calls. */
  readonly beforeSpawn?: (slot: AgentSlot, claim: Granted) => Promise<void> | undefined;
  /** Aborted when the worker gives up waiting for the server. */
  readonly closing?: AbortSignal;
  /** Whether this worker has lately been silent for so long that its guardian may have killed its trees. */
  readonly wasSilent?: () => boolean;
  /** Milliseconds for which this worker's right to its agents surely holds; 0 or less: it may have run out. */
  readonly leaseLeftMs?: () => number;
}

/** An order's news of one agent. */
export interface AgentEnded {
  readonly slot: AgentSlot;
  readonly fence: Fence;
  readonly executionId: string;
  readonly nodeId: string;
  readonly outcome: AgentOutcome | undefined;
  /** The order that stopped it, or was on its way when it ended. */
  readonly order: Order | undefined;
  /** `unconfirmed`: no proof of death yet; the runner goes on trying and says so again. */
  readonly confirmed: boolean;
  readonly report: StopReport | undefined;
}

export type Granted = Extract<Claim, { claimed: true }>;

/** The result of freezing or thawing one tree. */
export interface HoldResult {
  readonly slot: AgentSlot;
  readonly frozen: boolean;
  readonly error?: Error;
}
