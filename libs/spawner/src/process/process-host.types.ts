import type {
  AgentMessage,
  Containment,
  ExitReport,
  Grade,
  Isolation,
  NodeLimits,
  SeenProcess,
  StopReport,
  UidRange,
} from '#libs/contracts';
import type { Escapee } from './descent.types';
import type { InputFile } from './input-file';
import type { CheckSeal } from './seal';
import type { TreesEvidence } from './trees-evidence';
import type { Unproved } from './unproved';

export type { Containment, Escapee, Isolation };

/** Identifies one process for good: a pid alone is reused (docs/process-signals.md#no-signal-to-a-foreign-process). */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  readonly startTime: string;
  /** /proc/sys/kernel/random/boot_id: start times of two boots cannot be compared. */
  readonly bootId: string;
}

export interface ProcessHostOptions {
  /** Names the worker's cgroup (`belay-<workerId>`) and its record in the data directory. `[A-Za-z0-9_.-]{1,128}`. */
  readonly workerId: string;
  /** The folder of the record for reaping (`<dataDir>/hosts/<workerId>.json`, mode 0600). Made when absent. */
  readonly dataDir: string;
  readonly containment: 'auto' | Containment;
  /** How agents are kept apart from Belay. Default `auto`: the strongest that runs every command unchanged. */
  readonly isolation?: 'auto' | Isolation;
  /** With isolation `user`: the user ids that agents get. */
  readonly agentUids?: UidRange;
  /** The folder that marks user ids as taken, the same for every worker of a machine. Default /run/belay/uids. */
  readonly uidFolder?: string;
  /**
   * Whether no other code in this process starts processes. Then an orphan without any sign of an agent still belongs to one,
   * and is ended. Otherwise it may belong to other code and is left, but no tree younger than it is proved dead. Default false.
   */
  readonly ownsProcess?: boolean;
  /** Containment `descent`: an orphan without any sign of an agent was found. */
  onEscapee?(escapee: Escapee): void;
  /** A delegated cgroup v2 directory. Default: the worker's own cgroup. */
  readonly cgroupParent?: string;
  /** `off`: libc is not used, as where koffi cannot be loaded. Default `auto`. */
  readonly native?: 'auto' | 'off';
  /** SIGKILL rounds go on for this long before a stop answers `proved: false`. Default 5,000 ms. */
  readonly killWaitMs?: number;
  /** Output is read for this long after the tree is dead or given up. Default 500 ms. */
  readonly drainMs?: number;
  /** Bytes of one agent's log files. Beyond that the beginning and the end are kept. Default 16 MiB. */
  readonly logCapBytes?: number;
  /**
   * Containment by group: how often running trees are looked at, so that a member that hides later is known. Default 2,000 ms.
   */
  readonly watchMs?: number;
  /** Ends trees of dead workers found in the data directory before anything starts. Default true. */
  readonly reap?: boolean;
  /** Tells which records their workers signed. Without it none is believed, and nothing is reaped. */
  readonly checkSeal?: CheckSeal;
  /**
   * Stores the proof of a dead worker found at the start, before its record is removed. If this throws, the start goes on, and
   * the record stays for the next look.
   */
  readonly onReaped?: (worker: ReapedWorker) => Promise<void>;
}

/** One per worker process: starts agents, ends their trees, and runs a guardian that ends them when the worker dies. */
export interface ProcessHost {
  /** Signs this worker's record and the proofs of the worker and its guardian. A secret; only the server gets it. */
  readonly proofKey: string;
  readonly containment: Containment;
  readonly isolation: Isolation;
  /** The best grade that a proof of this worker can have. */
  readonly grade: Grade;
  /** Why `auto` did not choose a better containment; undefined when it is the best. */
  readonly containmentNote: string | undefined;
  /** Dead workers found at the start. Their processes were ended, or `unproved` says why not. */
  readonly reaped: readonly ReapedWorker[];
  /** Guardians started after the first one, because one died. */
  readonly guardianRestarts: number;
  /** The running guardian's pid, for `doctor` and for tests. */
  readonly guardianPid: number | undefined;
  /** Whether the guardian would act now: it must answer through its pipe within 500 ms. */
  guardianAnswers(): Promise<boolean>;
  /** Starts one agent. Rejects with BelayError SPAWN_FAILED, `details.reason` one of SpawnFailure; then no process is left. */
  spawn(request: SpawnRequest): Promise<AgentProcess>;
  /**
   * Starts a process ahead of its attempt. The process belongs to this host and is no agent: it ends with the host, and the
   * guardian ends it with the worker. Not with isolation `user`. Rejects as `spawn`.
   */
  startWaiting(request: WaitingRequest): Promise<WaitingProcess>;
  /**
   * Makes a waiting process the process of this attempt, in this turn of the event loop, and gives it `args` and the attempt's
   * variables and input. Undefined: it does not run any more. Throws as `spawn` rejects.
   */
  assign(waiting: WaitingProcess, request: AssignRequest): AgentProcess | undefined;
  /** A file for an input that is too large for memory. Rejects with the system's error where none can be made. */
  newInput(): Promise<InputFile>;
  /** Agents whose tree is not yet proved dead. */
  agents(): AgentProcess[];
  /** How often bytes were left in agents' pipes because the agents wrote faster than they are read. */
  readonly outputWaits: number;
  /**
   * A dead man's switch against a hung or SIGSTOPped worker: unless it is called again within `silenceMs`, the guardian kills
   * every tree of this worker. 0 disarms. Counted from `since`, a `performance.now()` of this process: the sending of the
   * acknowledged heartbeat. Default: now.
   */
  armFence(silenceMs: number, since?: number): void;
  /**
   * Ends every remaining tree with SIGKILL, removes the cgroups, ends the guardian. Bounded; idempotent. With `keepProof`, and
   * once every tree was seen dead, a proof stays in the data directory for another worker to report, because the ends of some
   * agents may not be stored.
   */
  close(options?: { readonly keepProof?: boolean }): Promise<void>;
}

/** `details.reason` of SPAWN_FAILED. */
export type SpawnFailure =
  | 'ENOENT'
  | 'EACCES'
  | 'BAD_CWD'
  | 'BAD_COMMAND'
  | 'BAD_ENV'
  | 'E2BIG'
  | 'EMFILE'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'CGROUP'
  | 'ABORTED'
  | 'TOO_LATE'
  | 'DUPLICATE'
  | 'CLOSED'
  | 'GUARDIAN'
  | 'ISOLATION'
  | 'NAMESPACE'
  | 'OTHER';

export interface SpawnRequest {
  /** Unique among the host's agents that are not yet ended; names the cgroup. */
  readonly agentId: string;
  /** argv; with `shell: true` exactly one string for `/bin/sh -c`. */
  readonly command: readonly string[];
  readonly shell: boolean;
  /** Added to the allow-list of the worker's own environment (environment.ts). */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /**
   * Written to the agent's stdin, then closed. It is no error when an agent does not read it. The caller closes a file's parts
   * that no agent was given.
   */
  readonly stdin: string | InputFile;
  /** The grace of a stop that comes by `signal`, and the upper bound for leftovers at a natural end. Milliseconds. */
  readonly graceMs: number;
  readonly limits?: NodeLimits;
  /** Aborted before the start: nothing is started. Aborted later: a graceful stop. */
  readonly signal?: AbortSignal;
  /**
   * Milliseconds in which the agent may still start; 0 or less: it may not. Called in the very turn of the event loop of the
   * fork, since a start may have waited for that turn. The process itself checks the limit again before it becomes the command,
   * since this process may be suspended in between. Without it there is no limit.
   */
  startWithin?(): number;
  /** One line, or a piece of one. Not called after `ended` has resolved. */
  onOutput(piece: OutputPiece): void;
  /** A valid line of fd 3 and its length. Not called after `ended` has resolved. */
  onMessage(message: AgentMessage, bytes: number): void;
  /** A line of fd 3 that is no protocol message (cut to 256 characters). */
  onBadLine?(line: string): void;
  /** The file that gets stdout and stderr as well, one `<time> <stream> <F|P> <bytes>` each, up to the host's cap. */
  readonly logFile?: string;
}

/** The start of a process that waits for its attempt. */
export type WaitingRequest = Pick<SpawnRequest, 'command' | 'env' | 'cwd'>;

/** An attempt that is given to a waiting process. Limits can no longer be set. */
export type AssignRequest = Omit<SpawnRequest, 'limits' | 'shell' | 'command' | 'cwd'> & {
  readonly stdin: string;
  /** Arguments after those with which the process was started. */
  readonly args: readonly string[];
};

/** A process that was started before it has an attempt; it gets one at most. */
export interface WaitingProcess {
  readonly identity: ProcessIdentity;
  /** Resolves when the process reports that it waits, which may never happen. */
  readonly ready: Promise<void>;
  /** Resolves when it has ended, with its tree. Never rejects. */
  readonly ended: Promise<unknown>;
  /** Kills its tree, unless it was given to an attempt. */
  end(): Promise<void>;
}

/** A line of stdout or stderr as the agent wrote it, without its newline; one over 64 KiB comes in several pieces. */
export interface OutputPiece {
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Buffer;
  /** A newline follows. */
  readonly ends: boolean;
}

export interface StopOptions {
  /** `immediate` skips the stop signal and the grace. */
  readonly mode: 'graceful' | 'immediate';
  readonly graceMs: number;
}

/** A limit of the spec that this machine cannot enforce, and why. */
export interface UnappliedLimit {
  readonly limit: keyof NodeLimits;
  readonly reason: string;
}

/** One agent's process tree. */
export interface AgentProcess {
  readonly agentId: string;
  /** The first process: the leader of the tree's session and process group. */
  readonly identity: ProcessIdentity;
  readonly containment: Containment;
  readonly unappliedLimits: readonly UnappliedLimit[];
  /** Lines of fd 3 that were no protocol message. */
  readonly badLines: number;
  /** Bytes of its output that are in no log file. */
  readonly lostBytes: number;
  /**
   * Resolves once the first process exited, the tree was proved empty (or the proof was given up, `proved: false`) and the
   * output was drained. Never rejects.
   */
  readonly ended: Promise<ExitReport>;
  /**
   * Resolves with the report that proves the tree dead: together with `ended` when that was proved, else when the rounds in the
   * background succeed. At `host.close()` it resolves with the present report.
   */
  readonly confirmed: Promise<StopReport>;
  /**
   * Two-phase stop (docs/process-signals.md#the-steps-of-a-stop). Every caller gets the same report. A later call can only bring SIGKILL
   * forward. After the end it answers the stored report.
   */
  stop(options: StopOptions): Promise<ExitReport>;
  /**
   * Freezes the tree. Rejects with TIMEOUT when no pass that missed none saw all processes stopped within 5 s; a round that
   * began by then is finished.
   */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Live processes of the tree; in containment by group, those seen so far. */
  processes(): SeenProcess[];
}

/** A dead worker's processes on this host, and how they ended (docs/process-signals.md#when-the-worker-dies). */
export interface ReapedWorker {
  readonly workerId: string;
  readonly containment: Containment;
  readonly processes: readonly SeenProcess[];
  /** No process of it is left, by each kind of `evidence`. */
  readonly proved: boolean;
  readonly evidence: readonly TreesEvidence[];
  /** Why the end is not proved, if known. */
  readonly unproved?: Unproved;
}
