import type { DefaultRate } from '../access';
import type { Containment, Grade } from '../evidence';
import type { Isolation, UidRange } from '../isolation';

/** The source of a setting's value: the environment, its fixed default, or other settings. */
export type SettingSource = 'environment' | 'default' | 'derived';

/** All settings of one process, checked. Times are milliseconds. */
export interface Settings {
  /** Absent: the local server, started in `dataDir`. May contain a password: never log it. */
  readonly valkeyUrl?: string;
  readonly dataDir: string;
  readonly httpHost: string;
  /** 0: any free port. */
  readonly httpPort: number;
  /** How long a client may take to send one HTTP request, body included. */
  readonly requestTimeoutMs: number;
  /** The bound on the requests of a named token that has none of its own. */
  readonly httpRate: DefaultRate;
  /** After this silence on an event stream a comment is sent. Clients give up a stream that is silent for 75 s. */
  readonly keepAliveMs: number;
  /** Absent: made and stored in `dataDir`. Never log it. */
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
  /** The silence after which a worker stops its own agents, from the sending of the last acknowledged heartbeat. */
  readonly fenceAfterMs: number;
  /** The longest grace any agent gets while a worker fences itself: `graceMs`, at most a quarter of the lease. */
  readonly fenceGraceMs: number;
  /** How long an order's receipt may stay open before it is answered as incomplete. Belay keeps trying after that. */
  readonly proofLimitMs: number;
  /** The lowest grade of a proof that counts. */
  readonly proof: Grade;
  /** The number of people that the release of the latch of a kill of everything needs. */
  readonly releaseNeeds: number;
  /** The schedule of drills, as a cron expression in UTC; absent: only on request. */
  readonly drillCron?: string;
  /** With `drillCron`: a worker that has not passed a drill for longer is overdue. */
  readonly drillMaxAgeMs: number;
  readonly shards: number;
  readonly retentionMs: number;
  /** At most this many ended executions are kept. */
  readonly maxEnded: number;
  /** The bound on the memory of the state on a server; absent: nine tenths of its maxmemory. */
  readonly maxStateMb?: number;
  readonly containment: 'auto' | Containment;
  /** The cgroup v2 directory for the agents' cgroups; absent: Belay looks for one. */
  readonly cgroupParent?: string;
  /** How agents are kept apart from Belay; `auto`: the strongest that runs every command unchanged. */
  readonly isolation: 'auto' | Isolation;
  /** With isolation `user`: the user ids that agents get, one each. */
  readonly agentUids?: UidRange;
  /** `off`: processes are handled with Node's own means only. */
  readonly native: 'auto' | 'off';
  /** The directory in which agents run, and to which a relative `cwd` of a spec refers. */
  readonly workDir: string;
  /** The bound on agents' log files in the data directory. Mebibytes. */
  readonly maxLogMb: number;
  /** 0: any free port. */
  readonly workerHttpPort: number;
  readonly logLevel: LogLevel;
  /** The base URL of an OpenTelemetry collector; absent: no spans are made. */
  readonly otlpEndpoint?: string;
  /** The file that names the endpoints of webhooks; absent: no webhooks. */
  readonly webhooksFile?: string;
  /** BullMQ's key prefix. */
  readonly queuePrefix: string;
  /** Prefix of Belay's own keys. */
  readonly keyPrefix: string;
  /** For each variable, the source of its value. */
  readonly sources: Readonly<Record<string, SettingSource>>;
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
