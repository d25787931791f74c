/** The normalized form of an execution spec: what validation returns, what is stored, what workers read. */
export interface ExecutionSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly idempotencyKey?: string;
  /** Deadline of the whole execution, milliseconds from its start. */
  readonly timeoutMs?: number;
  /** Hard limit in USD; passing it stops the execution. */
  readonly maxCostUsd?: number;
  /** Soft limit in USD; passing it is told by one event, `execution.soft-budget`. */
  readonly softCostUsd?: number;
  /** Hard limit in tokens of language models; passing it stops the execution. */
  readonly maxTokens?: number;
  /** Soft limit in tokens; passing it is told by one event, `execution.soft-budget`. */
  readonly softTokens?: number;
  /** `stop` (default): one node failed for good stops the rest. `continue`: what does not depend on it runs on. */
  readonly onFailure: 'stop' | 'continue';
  /** Grace between the stop signal and SIGKILL; the fleet's default where absent. Milliseconds. */
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
  /** Between the moment it may start and its first attempt, after a retry by hand again. Milliseconds. */
  readonly delayMs?: number;
  /** The first attempt counts. Default 3. */
  readonly maxAttempts: number;
  /** `lost`: only an attempt that its worker lost or handed back is tried again. Absent: every failure is. */
  readonly retryOn?: 'lost';
  readonly backoff: BackoffPolicy;
  /** Deadline of one attempt, milliseconds from its start. */
  readonly timeoutMs?: number;
  readonly graceMs?: number;
  readonly limits?: NodeLimits;
  /** A failure for good of this node counts as done for its dependants, who then get no result from it. */
  readonly allowFailure: boolean;
  readonly onLostContact: 'stop';
  readonly recovery: RecoveryPolicy;
}

/** Whether another worker goes on with an attempt whose own was lost (requirement R29). */
export interface RecoveryPolicy {
  readonly auto: boolean;
  /** An outage longer than this is not recovered from by itself. Milliseconds. */
  readonly withinMs?: number;
}

/** An attempt runs a command, or a handler of an application's own code in a process of its own. */
export type NodeRun = CommandRun | HandlerRun;

/** A handler that the workers of the node's pool declare (docs/handlers.md). */
export interface HandlerRun {
  readonly handler: string;
}

export const isHandlerRun = (run: NodeRun): run is HandlerRun => 'handler' in run;

export interface CommandRun {
  /** argv. With `shell: true` exactly one string, given to `/bin/sh -c`. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Relative paths are taken from the worker's work directory. */
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

/** Bounds on what a spec may hold; each is named in the problem it raises. */
export const SPEC_LIMITS = {
  /** Nodes of one execution. */
  maxNodes: 100_000,
  /** Bytes of one HTTP body. */
  maxBodyBytes: 8 * 1024 * 1024,
  /** Problems listed before the list is cut with a count of the rest. */
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
  /** Bytes of all the results one node is given; more fails it with UPSTREAM_TOO_LARGE. */
  maxUpstreamBytes: 1024 * 1024 * 1024,
} as const;

/** The back-off where a spec gives none. */
export const DEFAULT_BACKOFF: BackoffPolicy = {
  type: 'exponential',
  delayMs: 1_000,
  maxMs: 30_000,
  jitter: 0.5,
};
/** The number of attempts where a spec gives none; the first attempt counts (requirement R33). */
export const DEFAULT_MAX_ATTEMPTS = 3;
export const DEFAULT_PRIORITY = 5;
export const DEFAULT_POOL = 'default';
/** Fleet-wide grace where neither node, execution nor settings say. Milliseconds (requirement R10). */
export const DEFAULT_GRACE_MS = 2_000;
