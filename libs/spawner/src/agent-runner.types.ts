import type { AgentMessage, NodeSpec, Order, StopReport } from '#libs/contracts';
import type { AgentOutcome, Claim, Fence, FinishResult, StartedProcess } from '#libs/lifecycle';
import type { AgentSlot } from './agent-slot';

/** The process of one attempt of a handler. */
export interface HandlerProgram {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** How processes of handlers are started ahead of their attempts. The attempt brings the name of the handler. */
export interface WaitingProgram {
  readonly command: readonly string[];
  /** The application's variables at this time. A process that was started with others is not used any more. */
  readonly env: () => Readonly<Record<string, string>>;
  /** This many processes wait at a time. */
  readonly count: number;
}

export interface RunnerOptions {
  readonly workerId: string;
  readonly workDir: string;
  readonly logDir: string;
  /** Above this many bytes of log files, files of ended agents are removed, the oldest first. Default 1 GiB. */
  readonly maxLogBytes?: number;
  /** The grace, unless node or execution sets one. Milliseconds. */
  readonly graceMs: number;
  /** Stores an attempt's end and advances the graph; the worker app binds AttemptEnds.end here. */
  readonly finish: (
    fence: Fence,
    outcome: AgentOutcome,
    node: NodeSpec,
    start?: StartedProcess,
  ) => Promise<FinishResult>;
  readonly onError?: (error: unknown, agentId: string) => void;
  /**
   * The program of a handler that this worker declares; undefined where it declares no such handler. Default: it declares none.
   */
  readonly handlerProgram?: (handler: string) => HandlerProgram | undefined;
  /** Variables with which one attempt reaches its worker. Default: none. */
  readonly agentEnv?: (fence: Fence) => Readonly<Record<string, string>>;
  /** Processes that wait for attempts of handlers. Default: none, and each attempt starts its own. */
  readonly ahead?: WaitingProgram | undefined;
  /** Called with each message of an agent as it arrives, beside its storing. Must not throw. */
  readonly onMessage?: (message: AgentMessage, claim: Granted) => void;
  /**
   * Called for each claim before the spawn, because an open order may cover the attempt. It must bound itself, and be
   * repeatable: it is called again while it rejects with OUTCOME_UNKNOWN. After any other rejection the attempt ends unstarted.
   */
  readonly beforeSpawn?: (slot: AgentSlot, claim: Granted) => Promise<void> | undefined;
  /** Aborted when the worker stops waiting for the server. */
  readonly closing?: AbortSignal;
  /** Whether this worker was silent so long lately that its guardian may have killed its trees. */
  readonly wasSilent?: () => boolean;
  /** Milliseconds for which this worker's right to its agents is certain; at 0 or less the lease may be over. */
  readonly leaseLeftMs?: () => number;
}

/** The end of one agent, for the orders about it. */
export interface AgentEnded {
  readonly slot: AgentSlot;
  readonly fence: Fence;
  readonly executionId: string;
  readonly nodeId: string;
  readonly outcome: AgentOutcome | undefined;
  /** The order that stopped the agent, or that was on its way when it ended. */
  readonly order: Order | undefined;
  /** False: there is no proof of death yet; the runner goes on trying, and emits again when it has one. */
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
