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

/** A failure as it is kept: a stable code and a sentence, no internals. */
export interface RecordedError {
  readonly code: string;
  readonly message: string;
  readonly nodeId?: string;
}

/** Times are milliseconds of Valkey's clock, each set once (requirement R5). */
export interface ExecutionRecord {
  readonly id: ExecutionId;
  readonly name: string;
  readonly state: ExecutionState;
  /** Bumped by every write; part of the compare-and-set (requirement R3). */
  readonly version: number;
  /** Bumped by retry. */
  readonly epoch: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly onFailure: 'stop' | 'continue';
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly completedAt?: number;
  readonly stoppedAt?: number;
  readonly deadlineAt?: number;
  /** The time left to its deadline when it was paused. Milliseconds. */
  readonly deadlineLeftMs?: number;
  /** Paused by freeze: its agents stand still. */
  readonly frozen?: boolean;
  readonly timeoutMs?: number;
  readonly graceMs?: number;
  readonly maxCostUsd?: number;
  readonly softCostUsd?: number;
  readonly maxTokens?: number;
  readonly softTokens?: number;
  readonly reason?: StopReason;
  /** A person's words for it. */
  readonly note?: string;
  /** Who created it, later who stopped it. */
  readonly actor?: string;
  /** The role of the actor's token, and the HTTP request; absent of acts that no token did. */
  readonly actorRole?: Role;
  readonly requestId?: string;
  readonly error?: RecordedError;
  readonly orderId?: OrderId;
  readonly idempotencyKey?: string;
  readonly costUsd: number;
  /** Some of its cost is an estimate, by the word of an agent. */
  readonly costEstimated?: true;
  /** Of language models; absent where no agent said any. */
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
  /** The full limit that it waits for, such as `label.tenant=acme`. */
  readonly limit?: string;
  /** Of a suspended one: the signal that wakes it, and when it fails without. Valkey's clock. */
  readonly waitsFor?: { readonly signal: string; readonly untilAt: number };
}

/** Counted over an agent's life, so that a bound never works unseen. */
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
  /** The fencing number of this attempt: a write with another is refused. Handed to the agent as BELAY_EPOCH. */
  readonly epoch: number;
  /** Its number among all that has begun in its shard: an order tells by it what was there before. */
  readonly born?: number;
  /** Counts from 1. */
  readonly attempt: number;
  /** The attempt before this one (requirement R9). */
  readonly previousId?: AgentId;
  /** Attempts before the last retry of the execution: its policy counts from there. */
  readonly priorAttempts?: number;
  /** The attempt before this one was lost with its worker, or ended by its drain (requirement R28). */
  readonly isRecovery?: boolean;
  readonly owner: WorkerId;
  /** Its record cannot be read (requirement R31): only its id, and perhaps its owner, are known. */
  readonly unreadable?: true;
  readonly pool: string;
  /** The node's own, else the execution's; absent where neither says. Milliseconds. */
  readonly graceMs?: number;
  /** The execution's and the node's together; absent when there are none. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Its tree stands still. */
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
  /** Some of its cost is an estimate, by its own word. */
  readonly costEstimated?: true;
  /** Of language models; absent where it said none. */
  readonly tokens?: number;
  /** The last one said. Like the checkpoint it is not in lists: both may be large. */
  readonly progress?: unknown;
  /** The last one said, by this attempt or by one before it. */
  readonly checkpoint?: unknown;
  /** The attempt that said it. */
  readonly checkpointOf?: AgentId;
  /** Lines on fd 3 that were not protocol. */
  readonly badLines?: number;
  /** Of what it said and wrote, how much was beyond its bounds and was not kept. */
  readonly dropped?: Dropped;
  /** How its end was observed. */
  readonly report?: StopReport;
}

/** A line of an agent's output; one over 64 KiB comes in several pieces, each with a number. */
export interface LogLine {
  /** Of the stream: a follower resumes after it. */
  readonly id: string;
  /** Valkey's clock, milliseconds. */
  readonly at: number;
  /** Counts from 1 over the whole output. */
  readonly n: number;
  readonly stream: 'stdout' | 'stderr';
  /** As UTF-8; other bytes read U+FFFD. */
  readonly line: string;
  /** The bytes as the agent wrote them, where `line` does not have them all. */
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

/** Where the whole output of an agent is. */
export interface LogFile {
  readonly workerId: WorkerId;
  readonly host: string;
  /** The beginning; of a long output the end is in `<path>.1` and `<path>.2`. */
  readonly path: string;
  /** Bytes that are in none of them; known once the agent has ended. */
  readonly lostBytes?: number;
}

/** The part of an agent's output that the server keeps: the beginning and the end. */
export interface AgentLogs {
  readonly lines: readonly LogLine[];
  readonly total: OutputSize;
  readonly skipped: OutputSize;
  /** Nothing more comes. */
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
  /** Handlers that its application declares; absent without any. */
  readonly handlers?: readonly string[];
  readonly concurrency: number;
  readonly containment: Containment;
  readonly isolation: Isolation;
  /** The best grade that a proof of it can have; absent for workers of earlier releases. */
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
