import type { Containment, Grade } from '../evidence';
import type { Isolation, UidRange } from '../isolation';

/** Where a setting's value came from: the environment, its fixed default, or other settings. */
export type SettingSource = 'environment' | 'default' | 'derived';

/** All settings of one process, checked. Times are milliseconds. */
export interface Settings {
  /** Absent: the local server, started in `dataDir`. May hold a password: never log it. */
  readonly valkeyUrl?: string;
  readonly dataDir: string;
  readonly httpHost: string;
  /** 0: any free port. */
  readonly httpPort: number;
  /** How long a client may take to send one HTTP request, body included. */
  readonly requestTimeoutMs: number;
  /** Silence on an event stream after which a comment is sent. Clients give a silent stream up after 75 s. */
  readonly keepAliveMs: number;
  /** Absent: made and kept in `dataDir`. Never log it. */
  readonly token?: string;
  /** Workers that `belay up` starts. */
  readonly workers: number;
  /** Agents one worker runs at once. */
  readonly workerConcurrency: number;
  readonly pools: readonly string[];
  readonly graceMs: number;
  readonly stopTimeoutMs: number;
  readonly leaseTtlMs: number;
  readonly heartbeatMs: number;
  /** Silence after which a worker stops its own agents, from the sending of the last acknowledged heartbeat. */
  readonly fenceAfterMs: number;
  /** The longest grace any agent gets while a worker fences itself: `graceMs`, at most a quarter of the lease. */
  readonly fenceGraceMs: number;
  /** How long an order's receipt may stay open before it is answered as incomplete; it is tried on after that. */
  readonly proofLimitMs: number;
  /** The least grade of a proof that counts. */
  readonly proof: Grade;
  /** When drills run by themselves, as a cron expression in UTC; absent: only when asked. */
  readonly drillCron?: string;
  /** With `drillCron`: a worker that has not passed a drill for longer is overdue. */
  readonly drillMaxAgeMs: number;
  readonly shards: number;
  readonly retentionMs: number;
  /** Ended executions kept at most. */
  readonly maxEnded: number;
  /** Bound on what the state takes of a server's memory; absent: nine tenths of its maxmemory. */
  readonly maxStateMb?: number;
  readonly containment: 'auto' | Containment;
  /** cgroup v2 directory under which agents' cgroups are made; absent: looked for. */
  readonly cgroupParent?: string;
  /** How agents are kept apart from Belay; `auto`: the strongest that runs every command unchanged. */
  readonly isolation: 'auto' | Isolation;
  /** With isolation `user`: the user ids that agents get, one each. */
  readonly agentUids?: UidRange;
  /** `off`: processes are handled with Node's own means only. */
  readonly native: 'auto' | 'off';
  /** Where agents run, and what a relative `cwd` of a spec starts from. */
  readonly workDir: string;
  /** Of agents' log files in the data directory. Mebibytes. */
  readonly maxLogMb: number;
  /** 0: any free port. */
  readonly workerHttpPort: number;
  readonly logLevel: LogLevel;
  /** BullMQ's key prefix. */
  readonly queuePrefix: string;
  /** Prefix of Belay's own keys. */
  readonly keyPrefix: string;
  /** For each variable, where its value came from. */
  readonly sources: Readonly<Record<string, SettingSource>>;
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
