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
import type { Escapee } from './descent';
import type { InputFile } from './input-file';
import type { CheckSeal } from './seal';
import type { TreesEvidence } from './trees-evidence';
import type { Unproved } from './unproved';

export type { Containment, Escapee, Isolation };

/** One process for good: a pid alone names nothing, it is reused (requirement R21). */
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
  /** Where the record for reaping is kept (`<dataDir>/hosts/<workerId>.json`, mode 0600). Made when absent. */
  readonly dataDir: string;
  readonly containment: 'auto' | Containment;
  /** How agents are kept apart from Belay. Default `auto`: the strongest that runs every command unchanged. */
  readonly isolation?: 'auto' | Isolation;
  /** With isolation `user`: the user ids that agents get. */
  readonly agentUids?: UidRange;
  /** Where taken user ids are marked, the same for every worker of a machine. Default /run/belay/uids. */
  readonly uidFolder?: string;
  /**
   * Nobody else in this process starts processes: an orphan that bears no sign of an agent is one's all the same, and is
   * ended. Otherwise it may be somebody else's and is left, but no tree younger than it is proved dead. Default false.
   */
  readonly ownsProcess?: boolean;
  /** Containment `descent`: an orphan without any sign of an agent was found. */
  onEscapee?(escapee: Escapee): void;
  /** A delegated cgroup v2 directory. Default: the worker's own cgroup. */
  readonly cgroupParent?: string;
  /** `off`: nothing is asked of libc, as where koffi cannot be loaded. Default `auto`. */
  readonly native?: 'auto' | 'off';
  /** How long SIGKILL rounds go on before a stop answers `proved: false`. Default 5,000 ms. */
  readonly killWaitMs?: number;
  /** How long output is still read once the tree is dead or given up (requirement R14). Default 500 ms. */
  readonly drainMs?: number;
  /** Bytes of one agent's log files: of more, the beginning and the end are kept. Default 16 MiB. */
  readonly logCapBytes?: number;
  /** Group mode: how often running trees are looked at, so that a member who later hides is known. Default 2,000 ms. */
  readonly watchMs?: number;
  /** Ends trees of dead workers found in the data directory before anything starts (requirement R17). Default true. */
  readonly reap?: boolean;
  /** Tells which of their records are signed by them. Without it none is believed, and nothing is reaped. */
  readonly checkSeal?: CheckSeal;
  /**
   * Stores the proof of a dead worker found at the start, before its record is removed. Where this throws, the start goes on and the
   * record stays for the next look.
   */
  readonly onReaped?: (worker: ReapedWorker) => Promise<void>;
}

/** One per worker process: starts agents, ends their trees, and keeps a guardian that ends them when the worker dies. */
export interface ProcessHost {
  /** Signs this worker's record, and what it and its guardian prove. A secret for the server alone. */
  readonly proofKey: string;
  readonly containment: Containment;
  readonly isolation: Isolation;
  /** The best grade that a proof of this worker can have. */
  readonly grade: Grade;
  /** Why `auto` did not choose something better; undefined when it is the best. */
  readonly containmentNote: string | undefined;
  /** Dead workers found at the start, whose processes were ended, or not: `unproved` says why. */
  readonly reaped: readonly ReapedWorker[];
  /** Guardians started after the first one, because one died. */
  readonly guardianRestarts: number;
  /** The running guardian, for `doctor` and for tests. */
  readonly guardianPid: number | undefined;
  /** Whether the guardian would act now: asked through its pipe, it has to answer within 500 ms. */
  guardianAnswers(): Promise<boolean>;
  /**
   * Starts one agent. Rejects with BelayError SPAWN_FAILED, `details.reason` one of SpawnFailure; then nothing is left.
   */
  spawn(request: SpawnRequest): Promise<AgentProcess>;
  /**
   * Starts a process ahead of the attempt that it is for. It is this host's, and no agent: it ends with the host, and by the
   * guardian with the worker. Not with isolation `user`. Rejects as `spawn`.
   */
  startWaiting(request: WaitingRequest): Promise<WaitingProcess>;
  /**
   * Makes a process that waits the process of this attempt, in this turn of the event loop, and gives it `args` and the attempt's
   * variables and input. Undefined: it does not run any more. Throws as `spawn` rejects.
   */
  assign(waiting: WaitingProcess, request: AssignRequest): AgentProcess | undefined;
  /** A file for an input that is too large for memory. Rejects with the system's error where none can be made. */
  newInput(): Promise<InputFile>;
  /** Agents whose tree is not yet proved dead. */
  agents(): AgentProcess[];
  /** Times something was left in agents' pipes because they wrote faster than agents are read. */
  readonly outputWaits: number;
  /**
   * Dead man's switch against a hung or SIGSTOPped worker: unless called again within `silenceMs`, the guardian kills
   * every tree of this worker. 0 disarms. Counted from `since`, a `performance.now()` of this process: the sending of
   * the heartbeat that was acknowledged. Default: now.
   */
  armFence(silenceMs: number, since?: number): void;
  /**
   * Ends every tree still there with SIGKILL, removes the cgroups, ends the guardian. Bounded; idempotent. With
   * `keepProof`, and once every tree was seen dead, a proof of that stays in the data directory for another worker to
   * tell: the ends of some agents may not be stored.
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
   * Written to the agent's stdin, then closed. An agent that does not read it is no error. Of a file what was not given to
   * an agent is the caller's to close.
   */
  readonly stdin: string | InputFile;
  /** Grace of a stop that comes by `signal`, and the upper bound for leftovers at a natural end. Milliseconds. */
  readonly graceMs: number;
  readonly limits?: NodeLimits;
  /** Aborted before the start: nothing is started. Later: a graceful stop (requirement R16). */
  readonly signal?: AbortSignal;
  /**
   * Milliseconds in which it may still start; 0 or less: not any more. Asked in the very turn of the event loop in which
   * it is forked, since a start may have waited for that turn; and held by the process itself before it becomes the
   * command, since this process may be stopped in between. Without it there is no limit.
   */
  startWithin?(): number;
  /** One line, or a piece of one. Not called after `ended` has resolved. */
  onOutput(piece: OutputPiece): void;
  /** A valid line of fd 3 and its length. Not called after `ended` has resolved. */
  onMessage(message: AgentMessage, bytes: number): void;
  /** A line of fd 3 that is no protocol message (cut to 256 characters). */
  onBadLine?(line: string): void;
  /** Where stdout and stderr go as well, one `<time> <stream> <F|P> <bytes>` each, up to the host's cap. */
  readonly logFile?: string;
}

/** A start of a process that waits for its attempt. */
export type WaitingRequest = Pick<SpawnRequest, 'command' | 'env' | 'cwd'>;

/** An attempt that is given to a process that waits. Limits cannot be set any more. */
export type AssignRequest = Omit<SpawnRequest, 'limits' | 'shell' | 'command' | 'cwd'> & {
  readonly stdin: string;
  /** Arguments behind those that the process was started with. */
  readonly args: readonly string[];
};

/** A process that was started before there is an attempt for it; it is given one at most. */
export interface WaitingProcess {
  readonly identity: ProcessIdentity;
  /** Resolves when it says that it waits, which it may never do. */
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

/** A limit of the spec that this machine cannot hold, and why. */
export interface UnappliedLimit {
  readonly limit: keyof NodeLimits;
  readonly reason: string;
}

/** One agent's process tree. */
export interface AgentProcess {
  readonly agentId: string;
  /** Of the first process; the leader of the tree's session and process group. */
  readonly identity: ProcessIdentity;
  readonly containment: Containment;
  readonly unappliedLimits: readonly UnappliedLimit[];
  /** Lines of fd 3 that were no protocol message. */
  readonly badLines: number;
  /** Bytes of its output that its log files do not have. */
  readonly lostBytes: number;
  /**
   * Resolves once: the first process exited, the tree was proved empty (or the proof was given up, `proved: false`)
   * and the output was drained. Never rejects.
   */
  readonly ended: Promise<ExitReport>;
  /**
   * Resolves with the report that proves the tree dead: at once with `ended` when that was proved, else when the
   * rounds that go on in the background succeed (requirement R51). At `host.close()` it resolves with what is known then.
   */
  readonly confirmed: Promise<StopReport>;
  /**
   * Two-phase stop (requirement R10). Every caller gets the same report. A later call can only bring SIGKILL forward.
   * After the end it answers the stored report.
   */
  stop(options: StopOptions): Promise<ExitReport>;
  /**
   * Stops the tree where it stands. Rejects with TIMEOUT when a pass that missed none did not see all of it stand still
   * within 5 s; a round that began by then is finished.
   */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Processes of the tree alive now; group mode: of those seen so far. */
  processes(): SeenProcess[];
}

/** A dead worker's processes on this host, and how they ended (requirement R17). */
export interface ReapedWorker {
  readonly workerId: string;
  readonly containment: Containment;
  readonly processes: readonly SeenProcess[];
  /** Nothing of it is left, by each kind of `evidence`. */
  readonly proved: boolean;
  readonly evidence: readonly TreesEvidence[];
  /** Why it is not proved, where that was seen. */
  readonly unproved?: Unproved;
}
