import { CONTAINMENTS } from '../evidence';
import { ISOLATIONS } from '../isolation';
import { MOST_RELEASERS } from '../latches';
import { NAME_PATTERN } from '../spec-validation/fields';
import { DEFAULT_GRACE_MS, DEFAULT_POOL, SPEC_LIMITS } from '../spec';
import { formatDuration } from './parse-duration';
import {
  duration,
  names,
  oneOf,
  oneOfOr,
  requestRate,
  type SettingKind,
  text,
  uidRange,
  valkeyUrl,
  wholeNumber,
} from './setting-kinds';
import { LOG_LEVELS, type Settings } from './settings.types';

/** One variable of the environment. */
export interface Setting<K extends keyof Settings = keyof Settings> {
  /** The variable. */
  readonly name: string;
  /** Its field in `Settings`. */
  readonly key: K;
  readonly kind: SettingKind<NonNullable<Settings[K]>>;
  /** The default, as one writes it in the environment; absent where `unset` describes it. */
  readonly fallback?: string;
  /** The effect when it is not set and has no fixed default, in words. */
  readonly unset?: string;
  /** A secret is never shown in a message. */
  readonly secret?: true;
  readonly description: string;
}

const DAY_MS = 86_400_000;
const PREFIX = /^[A-Za-z0-9_.-]{1,64}$/;
const PREFIX_RULE = '1 to 64 of the characters A-Z a-z 0-9 _ . -';
const PATH_RULE = 'a path without NUL';
// oxlint-disable-next-line no-control-regex -- NUL is what is looked for
const PATH = /^[^\u0000]+$/;

// Without a user: the value is shown by belay doctor.
const COLLECTOR =
  /^https?:\/\/(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(?::\d{1,5})?(?:\/[A-Za-z0-9._~/-]{0,200})?$/;
const COLLECTOR_RULE =
  'an http or https URL without user, query or fragment, such as http://127.0.0.1:4318; /v1/traces is added';

// Numbers, lists, ranges and steps. The scheduler decides whether a day exists.
const CRON = /^(?:[\d*/,-]+ ){4}[\d*/,-]+$/;

const setting = <K extends keyof Settings>(entry: Setting<K>): Setting => entry as unknown as Setting;

/** Every variable that Belay reads, in the order of `belay doctor`. No other list names them. */
export const SETTINGS: readonly Setting[] = [
  setting({
    name: 'BELAY_VALKEY_URL',
    key: 'valkeyUrl',
    kind: valkeyUrl,
    unset: 'the local server',
    secret: true,
    description: 'The Valkey or Redis server, Sentinel set or Cluster that keeps the state',
  }),
  setting({
    name: 'BELAY_DATA_DIR',
    key: 'dataDir',
    kind: text(PATH_RULE, PATH),
    fallback: '.belay',
    description: "Where the local server's data, the admin token and the logs are",
  }),
  setting({
    name: 'BELAY_HTTP_HOST',
    key: 'httpHost',
    kind: text('a host name or an address', /^[A-Za-z0-9.:_-]{1,253}$/),
    fallback: '127.0.0.1',
    description: 'Address the orchestrator listens on',
  }),
  setting({
    name: 'BELAY_HTTP_PORT',
    key: 'httpPort',
    kind: wholeNumber(0, 65_535),
    fallback: '7070',
    description: 'Port the orchestrator listens on; 0 takes any free one',
  }),
  setting({
    name: 'BELAY_REQUEST_TIMEOUT_MS',
    key: 'requestTimeoutMs',
    kind: duration(1_000, 600_000),
    fallback: '60000',
    description: 'How long a client may take to send one HTTP request, body included',
  }),
  setting({
    name: 'BELAY_HTTP_RATE',
    key: 'httpRate',
    kind: requestRate,
    fallback: '200:1000',
    description:
      'Requests per second of a named token, and at once, at one orchestrator; acts that stop are never refused for it',
  }),
  setting({
    name: 'BELAY_STREAM_KEEPALIVE_MS',
    key: 'keepAliveMs',
    kind: duration(100, 60_000),
    fallback: '25000',
    description: 'Silence on an event stream after which a comment keeps the connection open',
  }),
  setting({
    name: 'BELAY_TOKEN',
    key: 'token',
    kind: text('16 to 256 characters without blanks', /^[\u0021-\u007e]{16,256}$/),
    unset: 'made and kept in the data directory',
    secret: true,
    description: 'Admin token of the HTTP interface',
  }),
  setting({
    name: 'BELAY_WORKERS',
    key: 'workers',
    kind: wholeNumber(0, 256),
    fallback: '2',
    description: 'Workers that belay up starts',
  }),
  setting({
    name: 'BELAY_WORKER_CONCURRENCY',
    key: 'workerConcurrency',
    kind: wholeNumber(1, 10_000),
    fallback: '8',
    description: 'Agents one worker runs at once',
  }),
  setting({
    name: 'BELAY_POOLS',
    key: 'pools',
    kind: names(
      'pool names between commas, each once, of 1 to 64 of the characters A-Z a-z 0-9 _ . -',
      NAME_PATTERN,
    ),
    fallback: DEFAULT_POOL,
    description: 'Pools a worker takes agents from',
  }),
  setting({
    name: 'BELAY_GRACE_MS',
    key: 'graceMs',
    kind: duration(0, SPEC_LIMITS.maxGraceMs),
    fallback: String(DEFAULT_GRACE_MS),
    description: 'Time between the stop signal and SIGKILL, if a spec sets none',
  }),
  setting({
    name: 'BELAY_STOP_TIMEOUT_MS',
    key: 'stopTimeoutMs',
    kind: duration(0, 3_600_000),
    fallback: '30000',
    description: 'How long a draining worker lets agents finish',
  }),
  setting({
    name: 'BELAY_LEASE_TTL_MS',
    key: 'leaseTtlMs',
    kind: duration(2_000, 600_000),
    fallback: '15000',
    description: "How long a worker's right to its agents lasts without a heartbeat",
  }),
  setting({
    name: 'BELAY_HEARTBEAT_MS',
    key: 'heartbeatMs',
    kind: duration(50, 60_000),
    fallback: '1000',
    description: 'Time between two heartbeats of a worker',
  }),
  setting({
    name: 'BELAY_FENCE_AFTER_MS',
    key: 'fenceAfterMs',
    kind: duration(100, 600_000),
    unset: 'nine tenths of the lease, less grace, kill time and slack',
    description: 'Silence after which a worker stops its own agents',
  }),
  setting({
    name: 'BELAY_PROOF_LIMIT_MS',
    key: 'proofLimitMs',
    kind: duration(500, 600_000),
    fallback: '30000',
    description: 'How long a stop waits for proof before it answers with an incomplete receipt',
  }),
  setting({
    name: 'BELAY_PROOF',
    key: 'proof',
    kind: oneOf(['marks', 'kernel']),
    fallback: 'marks',
    description: 'Least grade of a proof of death; with kernel, a proof by marks counts as unconfirmed',
  }),
  setting({
    name: 'BELAY_RELEASE_NEEDS',
    key: 'releaseNeeds',
    kind: wholeNumber(1, MOST_RELEASERS),
    fallback: '1',
    description:
      'How many different people must release the latch of a kill of everything, if the kill does not say',
  }),
  setting({
    name: 'BELAY_DRILL_CRON',
    key: 'drillCron',
    kind: text('a cron expression of five fields in UTC, such as 0 6 * * *', CRON),
    unset: 'only when asked',
    description: 'When every worker is drilled automatically',
  }),
  setting({
    name: 'BELAY_DRILL_MAX_AGE',
    key: 'drillMaxAgeMs',
    kind: { ...duration(60_000, 365 * DAY_MS), format: formatDuration },
    fallback: '2d',
    description: 'With a schedule: how old the last passed drill of a worker may be',
  }),
  setting({
    name: 'BELAY_SHARDS',
    key: 'shards',
    kind: wholeNumber(1, 256),
    fallback: '4',
    description: 'Hash tags the state is spread over; fixed at the first start',
  }),
  setting({
    name: 'BELAY_RETENTION',
    key: 'retentionMs',
    kind: { ...duration(1_000, 3_650 * DAY_MS), format: formatDuration },
    fallback: '7d',
    description: 'How long ended executions are kept',
  }),
  setting({
    name: 'BELAY_MAX_ENDED',
    key: 'maxEnded',
    kind: wholeNumber(0, 100_000_000),
    fallback: '100000',
    description: 'How many ended executions are kept; beyond it the oldest go first',
  }),
  setting({
    name: 'BELAY_MAX_STATE_MB',
    key: 'maxStateMb',
    kind: wholeNumber(1, 100_000_000),
    unset: "nine tenths of the server's maxmemory; no bound where it has none",
    description:
      'Memory of a state server, in MiB, above which submits are refused; near it the oldest ended executions go early',
  }),
  setting({
    name: 'BELAY_CONTAINMENT',
    key: 'containment',
    // `group` is the former name of `marks`.
    kind: oneOfOr(['auto', ...CONTAINMENTS], { group: 'marks' }),
    fallback: 'auto',
    description:
      'Containment of process trees: the best in which every command runs unchanged; a cgroup v2 each; a PID namespace each; descent from the worker; or marks',
  }),
  setting({
    name: 'BELAY_CGROUP_PARENT',
    key: 'cgroupParent',
    // oxlint-disable-next-line no-control-regex -- NUL is what is looked for
    kind: text('an absolute path', /^\/[^\u0000]*$/),
    unset: 'looked for at start',
    description: "Delegated cgroup v2 directory for agents' cgroups",
  }),
  setting({
    name: 'BELAY_ISOLATION',
    key: 'isolation',
    kind: oneOf(['auto', ...ISOLATIONS]),
    fallback: 'auto',
    description:
      'How agents are kept apart from Belay: by nothing, a user each, or namespaces; auto is same-user for now',
  }),
  setting({
    name: 'BELAY_AGENT_UIDS',
    key: 'agentUids',
    kind: uidRange,
    unset: 'required with BELAY_ISOLATION=user, refused without',
    description: 'User ids that no account has: each running agent gets one, as user and as group',
  }),
  setting({
    name: 'BELAY_NATIVE',
    key: 'native',
    kind: oneOf(['auto', 'off']),
    fallback: 'auto',
    description: 'Whether workers call libc through koffi, for functions that Node lacks',
  }),
  setting({
    name: 'BELAY_WORK_DIR',
    key: 'workDir',
    kind: text(PATH_RULE, PATH),
    fallback: '.',
    description: 'Working directory of agents; a relative cwd of a spec starts here',
  }),
  setting({
    name: 'BELAY_MAX_LOG_MB',
    key: 'maxLogMb',
    kind: wholeNumber(1, 1_000_000),
    fallback: '1024',
    description: "Most bytes of agents' log files in one data directory; the oldest ended ones go first",
  }),
  setting({
    name: 'BELAY_WORKER_HTTP_PORT',
    key: 'workerHttpPort',
    kind: wholeNumber(0, 65_535),
    fallback: '0',
    description: "Port of a worker's health page; 0 takes any free one",
  }),
  setting({
    name: 'BELAY_LOG_LEVEL',
    key: 'logLevel',
    kind: oneOf(LOG_LEVELS),
    fallback: 'info',
    description: 'Least level that is logged',
  }),
  setting({
    name: 'BELAY_OTLP_ENDPOINT',
    key: 'otlpEndpoint',
    kind: text(COLLECTOR_RULE, COLLECTOR),
    unset: 'no traces',
    description: 'OpenTelemetry collector that gets a trace of each execution, over OTLP/HTTP as JSON',
  }),
  setting({
    name: 'BELAY_WEBHOOKS_FILE',
    key: 'webhooksFile',
    kind: text(PATH_RULE, PATH),
    unset: 'no webhooks',
    description: 'JSON file with the endpoints that are told of orders, latches, workers and drills',
  }),
  setting({
    name: 'BELAY_QUEUE_PREFIX',
    key: 'queuePrefix',
    // Braces are allowed, since BullMQ needs a hash tag on Valkey Cluster.
    kind: text('1 to 64 of the characters A-Z a-z 0-9 _ . - { }', /^[A-Za-z0-9_.{}-]{1,64}$/),
    fallback: 'bull',
    description: "Prefix of BullMQ's keys, on a Cluster {bull}; producers use the same",
  }),
  setting({
    name: 'BELAY_KEY_PREFIX',
    key: 'keyPrefix',
    kind: text(PREFIX_RULE, PREFIX),
    fallback: 'belay',
    description: "Prefix of Belay's own keys",
  }),
];
