import type { Order, StopReport } from '#libs/contracts';
import type { AgentOutcome, Claim, Fence } from '#libs/lifecycle';
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
  readonly onError?: (error: unknown, agentId: string) => void;
  /**
   * The program of a handler that this worker declares; undefined where it declares no such handler. Default: it declares none.
   */
  readonly handlerProgram?: (handler: string) => HandlerProgram | undefined;
  /** Processes that wait for attempts of handlers. Default: none, and each attempt starts its own. */
  readonly ahead?: WaitingProgram | undefined;
  /** Aborted when the worker stops waiting for the server. */
  readonly closing?: AbortSignal;
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
