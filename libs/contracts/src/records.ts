import type { Role } from './access/roles';
import type { AgentId, ExecutionId, OrderId, WorkerId } from './ids';
import type { AgentState, ExecutionState, NodeState, WorkerState } from './states';
import type { Containment, Grade, StopReport } from './evidence';
import type { Isolation } from './isolation';

/** Why an execution was stopped, or an agent ended before its time. */
export const STOP_REASONS = [
  'user_abort',
  'timeout',
  'error',
  'budget_exceeded',
  'server_shutdown',
  'killswitch',
  'worker_lost',
] as const;
export type StopReason = (typeof STOP_REASONS)[number];

/** How many nodes of an execution are in each state; the sum is `total`. */
export interface NodeCounts {
  readonly total: number;
  readonly pending: number;
  readonly ready: number;
  readonly running: number;
  readonly suspended: number;
  readonly completed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly cancelled: number;
}

/** A failure as stored: a stable code and a sentence, without internals. */
export interface RecordedError {
  readonly code: string;
  readonly message: string;
  readonly nodeId?: string;
}

/** Times are milliseconds of the server's clock. Each is set once. */
export interface ExecutionRecord {
  readonly id: ExecutionId;
  readonly name: string;
  readonly state: ExecutionState;
  /** Rises with every write; part of the compare-and-set (ADR 0008). */
  readonly version: number;
  /** Rises with every retry. */
  readonly epoch: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly onFailure: 'stop' | 'continue';
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly completedAt?: number;
  readonly stoppedAt?: number;
  readonly deadlineAt?: number;
  /** The time that was left to its deadline at the pause. Milliseconds. */
  readonly deadlineLeftMs?: number;
  /** Paused by a freeze: its agents stand still. */
  readonly frozen?: boolean;
  readonly timeoutMs?: number;
  readonly graceMs?: number;
  readonly maxCostUsd?: number;
  readonly softCostUsd?: number;
  readonly maxTokens?: number;
  readonly softTokens?: number;
  readonly reason?: StopReason;
  /** A person's note. */
  readonly note?: string;
  /** The creator; after a stop, the author of the stop. */
  readonly actor?: string;
  /** The role of the actor's token, and the HTTP request; absent for acts without a token. */
  readonly actorRole?: Role;
  readonly requestId?: string;
  readonly error?: RecordedError;
  readonly orderId?: OrderId;
  readonly idempotencyKey?: string;
  readonly costUsd: number;
  /** A part of its cost is an estimate, by an agent's own report. */
  readonly costEstimated?: true;
  /** Tokens of language models; absent where no agent reported any. */
  readonly tokens?: number;
  readonly nodes: NodeCounts;
  /** Agents not yet ended. */
  readonly live: number;
}

export interface NodeRecord {
  readonly id: string;
  readonly index: number;
  readonly pool: string;
  readonly state: NodeState;
  readonly attempt: number;
  readonly agentId?: AgentId;
  readonly error?: RecordedError;
  readonly reason?: StopReason;
  /** The full limit for which it waits, such as `label.tenant=acme`. */
  readonly limit?: string;
  /** Of a suspended node: the signal that wakes it, and the time at which it fails without. The server's clock. */
  readonly waitsFor?: { readonly signal: string; readonly untilAt: number };
}

/** Counted over an agent's life, so that no bound takes effect unseen. */
export interface Dropped {
  /** Events beyond the rate, or beyond what is kept of one agent. */
  readonly events?: number;
  /** Progress and checkpoint lines that were too long. */
  readonly progress?: number;
  readonly checkpoints?: number;
  /** Lines of output that came faster than they are sent to the server, and their bytes; the worker's file may have them. */
  readonly lines?: number;
  readonly bytes?: number;
}

export interface AgentRecord {
  readonly id: AgentId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly state: AgentState;
  readonly version: number;
  /** The fencing number of this attempt: a write with another number is refused. The agent gets it as BELAY_EPOCH. */
  readonly epoch: number;
  /** Its place in the count of all attempts that have begun in its shard (ADR 0015). */
  readonly born?: number;
  /** Counts from 1. */
  readonly attempt: number;
  /** The attempt before this one. */
  readonly previousId?: AgentId;
  /** Attempts before the last retry of the execution: the policy counts only later ones. */
  readonly priorAttempts?: number;
  /** The attempt before this one was lost with its worker, or ended by its worker's drain (docs/recovery.md). */
  readonly isRecovery?: boolean;
  readonly owner: WorkerId;
  /**
   * The record cannot be read: only its id, and perhaps its owner, are known
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  readonly unreadable?: true;
  readonly pool: string;
  /** The node's own grace, else the execution's; absent where neither sets one. Milliseconds. */
  readonly graceMs?: number;
  /** The merged labels of execution and node; absent when there are none. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Its processes stand still. */
  readonly frozen?: boolean;
  /** The newest 100 freeze orders for which the processes were seen stopped. */
  readonly frozenBy?: readonly OrderId[];
  readonly pid?: number;
  /** Start time of that pid, clock ticks since boot: with the pid and the boot id it names one process. */
  readonly pidStartTime?: string;
  readonly containment?: Containment;
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly completedAt?: number;
  readonly stoppedAt?: number;
  readonly exitCode?: number;
  readonly signal?: string;
  readonly reason?: StopReason;
  readonly error?: RecordedError;
  readonly orderId?: OrderId;
  readonly actor?: string;
  readonly costUsd: number;
  /** A part of its cost is an estimate, by the agent's own report. */
  readonly costEstimated?: true;
  /** Tokens of language models; absent where the agent reported none. */
  readonly tokens?: number;
  /** The newest progress. Like the checkpoint it is not in lists: both may be large. */
  readonly progress?: unknown;
  /** The newest checkpoint, of this attempt or of an earlier one. */
  readonly checkpoint?: unknown;
  /** The attempt that said the checkpoint. */
  readonly checkpointOf?: AgentId;
  /** Lines on fd 3 that were no protocol message. */
  readonly badLines?: number;
  /** The parts of its messages and output that exceeded the bounds and were not kept. */
  readonly dropped?: Dropped;
  /** The evidence of its end. */
  readonly report?: StopReport;
}

/** A line of an agent's output; one over 64 KiB comes in several pieces, each with a number. */
export interface LogLine {
  /** The id in the stream: a follower resumes after it. */
  readonly id: string;
  /** The server's clock, milliseconds. */
  readonly at: number;
  /** Counts from 1 over the whole output. */
  readonly n: number;
  readonly stream: 'stdout' | 'stderr';
  /** As UTF-8; other bytes become U+FFFD. */
  readonly line: string;
  /** The bytes as the agent wrote them, if `line` does not contain all of them. */
  readonly base64?: string;
  /** No newline follows: the line goes on in the next piece of its stream, or the output ends. */
  readonly partial?: true;
  /** Output between the line before and this one that the server does not keep. */
  readonly skipped?: OutputSize;
}

export interface OutputSize {
  readonly lines: number;
  readonly bytes: number;
}

/** The file with an agent's whole output. */
export interface LogFile {
  readonly workerId: WorkerId;
  readonly host: string;
  /** The beginning; the end of a long output is in `<path>.1` and `<path>.2`. */
  readonly path: string;
  /** Bytes that are in no file; known once the agent has ended. */
  readonly lostBytes?: number;
}

/** The part of an agent's output that the server keeps: the beginning and the end. */
export interface AgentLogs {
  readonly lines: readonly LogLine[];
  readonly total: OutputSize;
  readonly skipped: OutputSize;
  /** The output has ended. */
  readonly ended: boolean;
  readonly file?: LogFile;
}

export interface WorkerRecord {
  readonly id: WorkerId;
  readonly state: WorkerState;
  readonly version: number;
  readonly host: string;
  readonly pid: number;
  readonly bootId: string;
  readonly pools: readonly string[];
  /** Handlers that the worker's application declares; absent without any. */
  readonly handlers?: readonly string[];
  readonly concurrency: number;
  readonly containment: Containment;
  readonly isolation: Isolation;
  /** The best grade that a proof of this worker can have; absent for workers of earlier releases. */
  readonly grade?: Grade;
  readonly httpPort?: number;
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly stoppedAt?: number;
  readonly lastHeartbeatAt?: number;
  readonly leaseExpiresAt?: number;
  readonly running: number;
  readonly reason?: string;
}

/** One page of a list; `nextCursor` is absent on the last. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor?: string;
  /** Only on a last page: there are more than a list reads, and the oldest of them are left out. */
  readonly truncated?: true;
}
