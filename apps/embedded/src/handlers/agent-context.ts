import { SUSPEND_LIMITS, type Signal } from '#libs/contracts';
import { makeAsk, type Ask } from './ask';
import { makeStep, type Step } from './steps';
import { report, say } from './reporter';
import { Suspended } from './suspended';
import { WorkerClient } from './worker-client';

/** The facts that Belay gives an attempt beside its input. */
export interface AgentFacts {
  readonly executionId: string;
  readonly nodeId: string;
  readonly agentId: string;
  /** Counts from 1. */
  readonly attempt: number;
  /** Fences the attempt's own side effects: a later attempt has a higher epoch. */
  readonly epoch: number;
  /** The attempt before this one was lost with its worker, or ended by its drain. */
  readonly isRecovery: boolean;
  /** The results of the nodes on which it depends, by their ids. */
  readonly upstream: Readonly<Record<string, unknown>>;
  /** The newest checkpoint of the attempts before this one; null without one. */
  readonly lastCheckpoint: unknown;
  /** Events of the attempts before this one, oldest first. */
  readonly earlierEvents: readonly unknown[];
  /** The signal that woke the node; undefined without one. */
  readonly wokenBy: Signal | undefined;
}

/** One attempt's interface to Belay. Each report is written before the call returns, and the worker stores it soon after. */
export interface AgentContext extends AgentFacts {
  /** Aborted by SIGTERM: the grace begins, and SIGKILL follows it. */
  readonly signal: AbortSignal;
  /** Reports an event of the execution. @throws an error with a `code` where the data is no JSON, or is too large */
  emit(name: string, data?: unknown): void;
  /** Reports progress; only the newest is kept. @throws as `emit` */
  progress(value: unknown): void;
  /** Stores a checkpoint; the next attempt gets it as `lastCheckpoint`. @throws as `emit` */
  checkpoint(value: unknown): void;
  /** Adds to the cost. US dollars; `estimated` marks the sum as an estimate. @throws as `emit` */
  cost(usd: number, options?: { readonly estimated?: boolean }): void;
  /** Adds to the used tokens of language models, read and written together. @throws as `emit` */
  tokens(count: number): void;
  /** Does work once for all attempts: the result is stored before it is returned. */
  readonly step: Step;
  /**
   * Asks people, and waits. The answer is one of the choices, or `denied`, also when nobody answers in time.
   * @throws an error with a `code` where the question is refused (INVALID_REQUEST, TOO_MANY_QUESTIONS) or was not stored
   */
  readonly ask: Ask;
  /**
   * Suspends the node until that signal comes: this attempt ends here, and no process and no slot waits. The next attempt has
   * the signal as `wokenBy`. Without a signal the node fails, by default after seven days. Never returns: do not catch the
   * error that it throws.
   */
  suspend(signal: string, options?: { readonly maxAgeMs?: number }): never;
  /** Writes a line of the agent's log. */
  log(line: string): void;
}

/** @param signal is called only for a handler that reads it. */
export function contextOf(facts: AgentFacts, signal: () => AbortSignal): AgentContext {
  const worker = new WorkerClient();
  return {
    ...facts,
    get signal() {
      return signal();
    },
    emit: (name, data) => report({ type: 'event', name, ...(data === undefined ? {} : { data }) }),
    progress: (value) => report({ type: 'progress', value }),
    checkpoint: (value) => report({ type: 'checkpoint', value }),
    cost: (usd, { estimated = false } = {}) =>
      report({ type: 'cost', usd, ...(estimated ? { estimated } : {}) }),
    tokens: (count) => report({ type: 'tokens', count }),
    step: makeStep(worker),
    ask: makeAsk(worker),
    suspend: (name, { maxAgeMs = SUSPEND_LIMITS.defaultAgeMs } = {}) => {
      report({ type: 'suspend', name, maxAgeMs });
      throw new Suspended();
    },
    log: say,
  };
}
