/** The normalised form of an execution spec: validation returns it, the store has it, workers read it. */
export interface ExecutionSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly idempotencyKey?: string;
  /** Deadline of the whole execution, milliseconds from its start. */
  readonly timeoutMs?: number;
  /** Hard limit in USD; passing it stops the execution. */
  readonly maxCostUsd?: number;
  /** Soft limit in USD; one event, `execution.soft-budget`, reports that it was passed. */
  readonly softCostUsd?: number;
  /** Hard limit in tokens of language models; passing it stops the execution. */
  readonly maxTokens?: number;
  /** Soft limit in tokens; one event, `execution.soft-budget`, reports that it was passed. */
  readonly softTokens?: number;
  /** `stop` (default): a node that failed for good stops the rest. `continue`: nodes that do not depend on it run on. */
  readonly onFailure: 'stop' | 'continue';
  /** Grace between the stop signal and SIGKILL; absent: the fleet's default. Milliseconds. */
  readonly graceMs?: number;
  readonly nodes: readonly NodeSpec[];
}

export interface NodeSpec {
  /** `[A-Za-z0-9_.-]{1,64}`, unique in its execution. */
  readonly id: string;
  readonly dependsOn: readonly string[];
  readonly run: NodeRun;
  readonly input?: unknown;
  readonly pool: string;
  /** 1..10, 10 first, default 5. */
  readonly priority: number;
  readonly labels: Readonly<Record<string, string>>;
  /** The wait between the time at which it may start and its first attempt; a retry by hand waits again. Milliseconds. */
  readonly delayMs?: number;
  /** Includes the first attempt. Default 3. */
  readonly maxAttempts: number;
  /** `lost`: only an attempt that was lost with its worker, or ended by its drain, is retried. Absent: every failure is. */
  readonly retryOn?: 'lost';
  readonly backoff: BackoffPolicy;
  /** Deadline of one attempt, milliseconds from its start. */
  readonly timeoutMs?: number;
  readonly graceMs?: number;
  readonly limits?: NodeLimits;
  /** A failure of this node for good counts as done for its dependants, which get no result from it. */
  readonly allowFailure: boolean;
  readonly onLostContact: 'stop';
  readonly recovery: RecoveryPolicy;
}

/** Whether another worker continues an attempt that was lost with its own (docs/recovery.md#rules). */
export interface RecoveryPolicy {
  readonly auto: boolean;
  /** A longer outage is not recovered from automatically. Milliseconds. */
  readonly withinMs?: number;
}

/** An attempt runs a command, or a handler: an application's own code in a process of its own. */
export type NodeRun = CommandRun | HandlerRun;

/** A handler that the workers of the node's pool declare (docs/handlers.md). */
export interface HandlerRun {
  readonly handler: string;
}

export const isHandlerRun = (run: NodeRun): run is HandlerRun => 'handler' in run;

export interface CommandRun {
  /** argv. With `shell: true` exactly one string, for `/bin/sh -c`. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Relative paths start from the worker's work directory. */
  readonly cwd?: string;
  readonly shell: boolean;
}

export interface BackoffPolicy {
  readonly type: 'fixed' | 'exponential';
  readonly delayMs: number;
  readonly maxMs: number;
  /** 0..1: the part of the delay that is drawn at random. */
  readonly jitter: number;
}

export interface NodeLimits {
  readonly memoryMb?: number;
  readonly cpus?: number;
  readonly pids?: number;
}

/** Bounds on a spec; the problem that a bound raises names it. */
export const SPEC_LIMITS = {
  /** Nodes of one execution. */
  maxNodes: 100_000,
  /** Bytes of one HTTP body. */
  maxBodyBytes: 8 * 1024 * 1024,
  /** Problems listed before the list ends with the number of the others. */
  maxProblems: 100,
  /** Characters of a name, an idempotency key, a label's key or value. */
  maxTextLength: 256,
  /** Labels on one execution or node. */
  maxLabels: 64,
  /** Longest deadline or delay: 30 days. Milliseconds. */
  maxDurationMs: 30 * 24 * 3_600_000,
  /** Longest grace: 10 minutes. Milliseconds. */
  maxGraceMs: 600_000,
  /** Attempts at one node. */
  maxAttempts: 100,
  /** Arguments of one command. */
  maxArguments: 1_024,
  /** Characters of one argument, environment value or path. */
  maxArgumentLength: 128 * 1024,
  /** Bytes of one node's result; a larger one fails the node with RESULT_TOO_LARGE. */
  maxResultBytes: 256 * 1024,
  /** Bytes of all the results that one node gets; more fail it with UPSTREAM_TOO_LARGE. */
  maxUpstreamBytes: 1024 * 1024 * 1024,
} as const;

/** The back-off of a spec without one. */
export const DEFAULT_BACKOFF: BackoffPolicy = {
  type: 'exponential',
  delayMs: 1_000,
  maxMs: 30_000,
  jitter: 0.5,
};
/** The number of attempts of a spec without one, with the first attempt. */
export const DEFAULT_MAX_ATTEMPTS = 3;
export const DEFAULT_PRIORITY = 5;
export const DEFAULT_POOL = 'default';
/** The grace where neither node, execution nor settings set one. Milliseconds. */
export const DEFAULT_GRACE_MS = 2_000;
